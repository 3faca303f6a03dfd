-- What ingest must remember across restarts and workers. Written only by workers and, on request, the control plane.

-- Which incarnation of each topic was accepted. A topic that is not here is new, and `start_at` applies to it.
CREATE TABLE topic_generations (
  topic       VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  generation  SMALLINT UNSIGNED NOT NULL,
  topic_id    VARCHAR(22) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  partitions  INT UNSIGNED NOT NULL,
  accepted_at DATETIME(3) NOT NULL,
  PRIMARY KEY (topic)
) ENGINE=InnoDB;

-- Where each partition was first read from. `confirmed` once that start was committed to Kafka: from then on a
-- missing commit means that offsets were lost.
CREATE TABLE partition_starts (
  topic          VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  generation     SMALLINT UNSIGNED NOT NULL,
  partition_number   SMALLINT UNSIGNED NOT NULL,
  start_position BIGINT UNSIGNED NOT NULL,
  confirmed      TINYINT(1) NOT NULL DEFAULT 0,
  resolved_at    DATETIME(3) NOT NULL,
  PRIMARY KEY (topic, generation, partition_number)
) ENGINE=InnoDB;

-- Partitions that are stopped because going on would jump over records, with the exact missing interval.
CREATE TABLE partition_stops (
  topic        VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  partition_number SMALLINT UNSIGNED NOT NULL,
  reason       VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  detail       VARCHAR(1000) NOT NULL,
  missing_from BIGINT UNSIGNED NULL,
  missing_to   BIGINT UNSIGNED NULL,
  stopped_at   DATETIME(3) NOT NULL,
  PRIMARY KEY (topic, partition_number)
) ENGINE=InnoDB;

-- The state of each data type that is not simply running.
CREATE TABLE type_states (
  data_type   VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  stopped     TINYINT(1) NOT NULL DEFAULT 0,
  stop_reason VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  stop_detail VARCHAR(1000) NOT NULL DEFAULT '',
  in_key_off  TINYINT(1) NOT NULL DEFAULT 0,
  changed_at  DATETIME(3) NOT NULL,
  PRIMARY KEY (data_type)
) ENGINE=InnoDB;

-- Intervals whose records of one type were passed over while it was stopped. They are owed to a replay.
-- `open_marker` is 1 while the interval still grows and NULL once it is closed, so that each partition has at most
-- one growing interval of a type.
CREATE TABLE deferred (
  id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  data_type      VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  topic          VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  topic_id       VARCHAR(22) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  partition_number   SMALLINT UNSIGNED NOT NULL,
  start_position BIGINT UNSIGNED NOT NULL,
  end_position   BIGINT UNSIGNED NOT NULL,
  reason         VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  open_marker    TINYINT(1) NULL,
  opened_at      DATETIME(3) NOT NULL,
  closed_at      DATETIME(3) NULL,
  PRIMARY KEY (id),
  UNIQUE KEY one_open (data_type, topic, topic_id, partition_number, open_marker)
) ENGINE=InnoDB;

-- Who does what only one process may do at a time, until when by this server's clock. The epoch goes up with each new
-- holder.
CREATE TABLE leases (
  name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  holder     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  epoch      BIGINT UNSIGNED NOT NULL,
  expires_at DATETIME(3) NOT NULL,
  PRIMARY KEY (name)
) ENGINE=InnoDB;
