-- What a request with an id came to, so that the same request again is answered the same and done once. Rows are
-- removed after some days.
CREATE TABLE requests (
  principal  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  request_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  method     VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  digest     CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of the request message',
  answer     MEDIUMBLOB NOT NULL COMMENT 'the answer message',
  created_at DATETIME(3) NOT NULL,
  PRIMARY KEY (principal, request_id),
  KEY requests_by_time (created_at)
) ENGINE=InnoDB;

-- Where an operator wants a stopped partition to go on. Its owner goes on there, and removes the row.
ALTER TABLE partition_stops ADD COLUMN resume_from BIGINT UNSIGNED NULL;
