-- The whitelist: the truth that the copy in Redis is made from. Written only by the control plane.

-- One row. Whoever changes the whitelist, in MySQL or in Redis, holds its lock. Version 0: there was never a change.
CREATE TABLE whitelist_head (
  id         TINYINT UNSIGNED NOT NULL,
  version    BIGINT UNSIGNED NOT NULL,
  change_id  CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  changed_at DATETIME(3) NOT NULL,
  PRIMARY KEY (id)
) ENGINE=InnoDB;

INSERT INTO whitelist_head (id, version, change_id, changed_at) VALUES (1, 0, '', UTC_TIMESTAMP(3));

-- One row for each list that ever held something. `scope` is a data type's name, and empty for the global list.
CREATE TABLE whitelist_lists (
  scope      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  entries    BIGINT UNSIGNED NOT NULL,
  version    BIGINT UNSIGNED NOT NULL COMMENT 'of the last change of this list',
  changed_at DATETIME(3) NOT NULL,
  PRIMARY KEY (scope)
) ENGINE=InnoDB;

CREATE TABLE whitelist_entries (
  scope      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  entry_id   VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  added_by   VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  added_at   DATETIME(3) NOT NULL,
  note       VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  expires_at DATETIME(3) NULL,
  PRIMARY KEY (scope, entry_id),
  KEY whitelist_entries_due (scope, expires_at)
) ENGINE=InnoDB;

-- Every change that was begun, whatever became of it. A version is never used for two changes; a request that changed
-- nothing for workers has none.
CREATE TABLE whitelist_changes (
  change_id      CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  version        BIGINT UNSIGNED NULL,
  base_version   BIGINT UNSIGNED NOT NULL COMMENT 'of the whitelist that it was made for',
  kind           VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'add, remove, replace, expire, heal or import',
  scope          VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  state          VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'intent, applied, failed or unknown',
  failure        VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  principal      VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  request_id     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL,
  request_digest CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  method         VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  note           VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  expires_at     DATETIME(3) NULL,
  added          BIGINT UNSIGNED NOT NULL,
  removed        BIGINT UNSIGNED NOT NULL,
  refreshed      BIGINT UNSIGNED NOT NULL COMMENT 'were on the list and took a new note or expiry',
  untouched      BIGINT UNSIGNED NOT NULL COMMENT 'asked for, and so already',
  entries_before BIGINT UNSIGNED NOT NULL,
  created_at     DATETIME(3) NOT NULL,
  finished_at    DATETIME(3) NULL,
  PRIMARY KEY (change_id),
  UNIQUE KEY whitelist_changes_by_version (version),
  UNIQUE KEY whitelist_changes_by_request (principal, request_id),
  KEY whitelist_changes_unfinished (state)
) ENGINE=InnoDB;

-- The ids of each change, some hundred to a row, so that no statement or row is large however large the change is.
CREATE TABLE whitelist_change_ids (
  change_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  chunk     INT UNSIGNED NOT NULL,
  scope     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  effect    VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'added, removed, refreshed or untouched',
  ids       MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'a JSON array',
  PRIMARY KEY (change_id, chunk)
) ENGINE=InnoDB;
