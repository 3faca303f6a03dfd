-- What is processed again: jobs that people ask for, and the tasks that workers run under a lease.

-- What PlanJob answered, until CreateJob takes it or it expires.
CREATE TABLE job_plans (
  plan_id    CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  principal  VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  plan       LONGBLOB NOT NULL COMMENT 'JSON',
  created_at DATETIME(3) NOT NULL,
  expires_at DATETIME(3) NOT NULL,
  PRIMARY KEY (plan_id),
  KEY job_plans_by_expiry (expires_at)
) ENGINE=InnoDB;

CREATE TABLE jobs (
  job_id            CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  kind              VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'REPLAY or REBUILD',
  mode              VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'LIVE, OVERWRITE, ISOLATED, VERIFY or REPAIR',
  state             VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  reason            VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'why it failed, in one word',
  detail            VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
  spec              LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: what was asked, for those who read it',
  labels            TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: an object of strings',
  data_types        TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: an array of their names',
  catalog_hash      CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'of these types, their lookups and topics',
  whitelist_version BIGINT UNSIGNED NOT NULL,
  clean_first       TINYINT(1) NOT NULL,
  allow_partial     TINYINT(1) NOT NULL,
  priority          SMALLINT NOT NULL COMMENT 'higher goes first',
  max_records_per_second BIGINT UNSIGNED NULL COMMENT 'NULL: no limit of its own',
  estimated_records BIGINT UNSIGNED NOT NULL,
  revision          BIGINT UNSIGNED NOT NULL COMMENT 'goes up with each change of this row',
  created_by        VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_at        DATETIME(3) NOT NULL,
  started_at        DATETIME(3) NULL,
  asked_at          DATETIME(3) NULL COMMENT 'when PAUSING or CANCELLING began',
  unclaimed_since   DATETIME(3) NULL COMMENT 'when workers were first seen whose catalog does not allow any to claim',
  finished_at       DATETIME(3) NULL,
  purged_at         DATETIME(3) NULL COMMENT 'from then on it is not found any more, and its rows are removed in steps',
  PRIMARY KEY (job_id),
  KEY jobs_by_state (state, priority, created_at),
  KEY jobs_by_time (created_at, job_id),
  KEY jobs_by_end (purged_at, finished_at)
) ENGINE=InnoDB;

-- The id lists that tasks let through, some hundred ids to a row.
CREATE TABLE job_filters (
  job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  filter INT UNSIGNED NOT NULL,
  chunk  INT UNSIGNED NOT NULL,
  ids    MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'a JSON array',
  PRIMARY KEY (job_id, filter, chunk)
) ENGINE=InnoDB;

-- One slice of a job each. There is no index but the primary key: all who lock tasks lock them in its order.
CREATE TABLE tasks (
  job_id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  task_number      INT UNSIGNED NOT NULL,
  data_type        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'empty: all types of the topic (REBUILD)',
  topic            VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  topic_id         VARCHAR(22) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  generation       SMALLINT UNSIGNED NOT NULL,
  partition_number SMALLINT UNSIGNED NOT NULL,
  start_position   BIGINT UNSIGNED NOT NULL,
  end_position     BIGINT UNSIGNED NOT NULL,
  filter           INT UNSIGNED NULL COMMENT 'the list of ids that pass; NULL: every id passes',
  record_time_from DATETIME(3) NULL COMMENT 'older records are filtered',
  record_time_to   DATETIME(3) NULL COMMENT 'records of this time and later are filtered',
  state            VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'PENDING, RUNNING, DONE, FAILED or CANCELLED',
  phase            VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'CLEAN, then WRITE',
  checkpoint       BIGINT UNSIGNED NOT NULL COMMENT 'everything before it has its outcome',
  epoch            BIGINT UNSIGNED NOT NULL DEFAULT 0,
  owner            VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
  lease_until      DATETIME(3) NULL,
  attempts         INT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'claims since the checkpoint moved last',
  reason           VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'why it failed, in one word',
  error            VARCHAR(1000) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'of the last attempt that failed',
  hold_reason      VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '' COMMENT 'why it is held back; empty: it is not',
  records_read     BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of any type',
  records_filtered BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of the type, and not let through',
  records_skipped  BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'of other types, and tombstones',
  bytes_read       BIGINT UNSIGNED NOT NULL DEFAULT 0,
  started_at       DATETIME(3) NULL,
  finished_at      DATETIME(3) NULL,
  PRIMARY KEY (job_id, task_number)
) ENGINE=InnoDB;

-- One row for each of a task's lanes. A batch updates its own row at its own epoch first, so that a former owner of
-- the task writes nothing; the counts are those of committed batches.
CREATE TABLE task_lanes (
  job_id            CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  task_number       INT UNSIGNED NOT NULL,
  lane              TINYINT UNSIGNED NOT NULL,
  epoch             BIGINT UNSIGNED NOT NULL DEFAULT 0,
  batches           BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rows_inserted     BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rows_updated      BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rows_unchanged    BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rows_stale        BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'a newer row was stored',
  rows_superseded   BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'by a newer row of the same batch',
  rows_dead_lettered BIGINT UNSIGNED NOT NULL DEFAULT 0,
  rows_deleted      BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'by clean_first',
  rows_missing      BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'VERIFY: no row was stored',
  rows_different    BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'VERIFY: the stored row has other values',
  rows_older        BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'VERIFY: an older row was stored',
  PRIMARY KEY (job_id, task_number, lane)
) ENGINE=InnoDB;

-- Positions that a job should have read and could not: Kafka does not have them any more.
CREATE TABLE job_missing (
  job_id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data_type        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  topic            VARCHAR(249) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  partition_number SMALLINT UNSIGNED NOT NULL,
  start_position   BIGINT UNSIGNED NOT NULL,
  end_position     BIGINT UNSIGNED NOT NULL,
  reason           VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'EXPIRED, TRUNCATED or RECREATED',
  found_at         DATETIME(3) NOT NULL,
  PRIMARY KEY (job_id, data_type, topic, partition_number, start_position)
) ENGINE=InnoDB;

-- What a VERIFY found, one row for each row of the target table, at most a limit for each job.
CREATE TABLE job_mismatches (
  job_id           CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data_type        VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  key_digest       BINARY(32) NOT NULL COMMENT 'SHA-256 of the row''s key',
  kind             VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'MISSING, DIFFERENT or OLDER',
  row_key          TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: column to value',
  differences      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: column to expected and stored value',
  source_position  VARBINARY(16) NOT NULL COMMENT 'of the record that the row should come from',
  stored_position  VARBINARY(16) NULL,
  found_at         DATETIME(3) NOT NULL,
  PRIMARY KEY (job_id, data_type, key_digest)
) ENGINE=InnoDB;

-- The job that replays a deferred interval, and when it had: until then the interval is owed.
ALTER TABLE deferred
  ADD COLUMN job_id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN settled_at DATETIME(3) NULL;
