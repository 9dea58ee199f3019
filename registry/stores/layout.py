"""The tables of the embedded store's file. Every statement may run on a file that has some of them already."""

from __future__ import annotations

VERSION = 3

LAYOUT = """
CREATE TABLE IF NOT EXISTS configs (
    tenant TEXT NOT NULL,
    connector TEXT NOT NULL,
    revision INTEGER NOT NULL,
    document TEXT,                  -- NULL: deleted
    actor TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    written INTEGER NOT NULL UNIQUE,
    PRIMARY KEY (tenant, connector)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
    tenant TEXT NOT NULL,
    connector TEXT NOT NULL,
    revision INTEGER NOT NULL,
    document TEXT,
    actor TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, connector, revision)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (epoch TEXT NOT NULL, written INTEGER NOT NULL);
INSERT INTO changes SELECT lower(hex(randomblob(4))), 0 WHERE NOT EXISTS (SELECT 1 FROM changes);

CREATE TABLE IF NOT EXISTS notes (
    name TEXT NOT NULL PRIMARY KEY,
    text TEXT NOT NULL,
    revision INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    hash TEXT NOT NULL,
    tenant TEXT GENERATED ALWAYS AS (CASE WHEN json_valid(text) THEN json_extract(text, '$.tenant') END) VIRTUAL
);
CREATE INDEX IF NOT EXISTS audit_of_tenant ON audit (tenant, number);
CREATE TRIGGER IF NOT EXISTS audit_grows_at_its_end BEFORE INSERT ON audit
    WHEN NEW.number <> (SELECT coalesce(max(number), 0) + 1 FROM audit)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_not_changed BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_not_cut BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""
