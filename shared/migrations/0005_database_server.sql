-- Which server this is. It goes with the data to a replica that takes over, and there it disagrees with what the
-- server says of itself: writes that were acknowledged shortly before may be gone.
CREATE TABLE database_server (
  only_row         TINYINT UNSIGNED NOT NULL,
  identity         VARCHAR(700) NOT NULL,
  version          VARCHAR(100) NOT NULL,
  seen_at          DATETIME(3) NOT NULL,
  previous         VARCHAR(700) NULL,
  previous_seen_at DATETIME(3) NULL,
  changed_at       DATETIME(3) NULL,
  PRIMARY KEY (only_row)
) ENGINE=InnoDB;
