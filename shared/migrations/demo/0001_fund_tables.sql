-- The tables that the shipped catalog (config/catalog.yaml) writes to. For the demo and for tests: in production the
-- target tables belong to whoever reads them, and reprise only checks them at start.
--
-- Keys have a binary collation, so that two ids are one key only when they are the same bytes. source_time and
-- source_position say which of two rows with one key is newer; source_position is VARBINARY, because BINARY would pad
-- the short positions of backfilled rows.

CREATE TABLE t_fund_basic_info (
    performance_id  VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fund_code       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    fund_name       VARCHAR(200) NOT NULL,
    fund_type       VARCHAR(50) NULL,
    currency        VARCHAR(3) CHARACTER SET ascii COLLATE ascii_bin NULL,
    inception_date  DATE NULL,
    source_time     DATETIME(3) NOT NULL,
    source_position VARBINARY(16) NOT NULL,
    PRIMARY KEY (performance_id),
    KEY by_fund_code (fund_code),
    KEY by_fund_name (fund_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE t_fund_valuation (
    fund_code       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    nav_date        DATE NOT NULL,
    unit_nav        DECIMAL(20, 8) NOT NULL,
    accumulated_nav DECIMAL(20, 8) NULL,
    source_time     DATETIME(3) NOT NULL,
    source_position VARBINARY(16) NOT NULL,
    PRIMARY KEY (fund_code, nav_date)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;

CREATE TABLE t_ai_risk (
    fund_code       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    alert_date      DATE NOT NULL,
    risk_level      INT NOT NULL,
    risk_score      DECIMAL(10, 4) NOT NULL,
    volatility      DECIMAL(12, 8) NULL,
    message         VARCHAR(500) NULL,
    source_time     DATETIME(3) NOT NULL,
    source_position VARBINARY(16) NOT NULL,
    PRIMARY KEY (fund_code, alert_date)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
