-- Records and rows that could not be written as they are, and the records' bytes, once per record.

CREATE TABLE dead_letter_records (
    topic_id         CHAR(22)          CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    partition_number SMALLINT UNSIGNED NOT NULL,
    record_offset    BIGINT UNSIGNED   NOT NULL,
    topic            VARCHAR(249)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    record_time      DATETIME(3)       NULL COMMENT 'Kafka''s timestamp in UTC, NULL when it has none',
    record_key       LONGBLOB          NULL,
    headers          LONGTEXT          CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL COMMENT 'JSON: [{"name", "value" or "value_hex"}, …]',
    payload          LONGBLOB          NULL COMMENT 'NULL for a tombstone',
    payload_size     BIGINT UNSIGNED   NOT NULL COMMENT 'as Kafka delivered it',
    payload_state    VARCHAR(16)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'WHOLE or POINTER_ONLY (cut)',
    PRIMARY KEY (topic_id, partition_number, record_offset)
) ENGINE = InnoDB;

CREATE TABLE dead_letters (
    id               BIGINT UNSIGNED   NOT NULL AUTO_INCREMENT,
    data_type        VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'empty when the record matched none',
    topic_id         CHAR(22)          CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    partition_number SMALLINT UNSIGNED NOT NULL,
    record_offset    BIGINT UNSIGNED   NOT NULL,
    record_row       INT UNSIGNED      NOT NULL COMMENT '4294967295 for the whole record',
    class            VARCHAR(32)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    error            VARCHAR(2000)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    attempts         INT UNSIGNED      NOT NULL DEFAULT 1,
    state            VARCHAR(16)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'RETRYING, PARKED, REDRIVEN or DISCARDED',
    job_id           VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '' COMMENT 'empty for live traffic',
    lookup_name      VARCHAR(64)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    lookup_key       VARCHAR(255)      CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL DEFAULT '',
    created_at       DATETIME(3)       NOT NULL,
    updated_at       DATETIME(3)       NOT NULL,
    published_at     DATETIME(3)       NULL COMMENT 'when it was sent to the dead-letter topic',
    PRIMARY KEY (id),
    UNIQUE KEY dead_letters_by_origin (data_type, topic_id, partition_number, record_offset, record_row),
    KEY dead_letters_by_record (topic_id, partition_number, record_offset),
    KEY dead_letters_by_lookup (state, lookup_name, lookup_key),
    KEY dead_letters_by_age (state, updated_at),
    KEY dead_letters_unpublished (published_at, id)
) ENGINE = InnoDB;
