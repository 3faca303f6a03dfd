-- Who changed what: one row for each mutation, written in the transaction of its change.

CREATE TABLE audit_events (
  id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  happened_at  DATETIME(3) NOT NULL,
  principal    VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  method       VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  target       VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  before_state TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON, a summary',
  after_state  TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON, a summary',
  outcome      VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'done, failed or unknown',
  reason       VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  request_id   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  PRIMARY KEY (id),
  KEY audit_events_by_time (happened_at, id),
  KEY audit_events_by_principal (principal, id),
  KEY audit_events_by_target (target, id)
) ENGINE=InnoDB;
