/** The version of the tables and functions that this code works with. */
export const SCHEMA_VERSION = 2;

/**
 * What is made in a schema, one text per version: the first makes version 1, the second turns 1 into 2, and so on.
 * Never changed once released.
 */
const MIGRATIONS: readonly ((schema: string) => string)[] = [version1, version2];

/** @throws {TypeError} unless it is a name that needs no quotes and leaves room for what is added to it. */
export function checkSchemaName(schema: string): string {
  if (/^[a-z_][a-z0-9_]{0,39}$/.test(schema) && !schema.startsWith('pg_')) return schema;
  throw new TypeError(
    `postgres: schema ${JSON.stringify(schema)} must be of a-z, 0-9 and _, at most 40 characters, begin with a letter or _ and not with pg_`,
  );
}

/** The channel on which the sids of changed sessions are told. */
export function sessionChannel(schema: string): string {
  return `${schema}.sessions`;
}

/** SQL that brings a schema from one version (0: not there) to that of this code. For one transaction. */
export function migrationSql(schema: string, from: number): string {
  const steps = MIGRATIONS.slice(from).map(migration => migration(schema));
  const record =
    from === 0
      ? `INSERT INTO ${schema}.schema_version (version) VALUES (${SCHEMA_VERSION});`
      : `UPDATE ${schema}.schema_version SET version = ${SCHEMA_VERSION};`;
  return [...steps, record].join('\n\n');
}

/**
 * The DDL for an operator who runs it by hand (`migrate: false`).
 *
 * @param schema Default `holdfast`.
 * @param from The version of the schema that is there. Default 0: none.
 * @throws {TypeError} when the name cannot be one, or there is no way from that version.
 *
 * @example
 * import { postgresDdl } from 'holdfast/session/postgres';
 *
 * console.log(postgresDdl('shop').includes('CREATE TABLE')); // true
 */
export function postgresDdl(schema = 'holdfast', from = 0): string {
  const name = checkSchemaName(schema);
  if (!Number.isInteger(from) || from < 0 || from >= SCHEMA_VERSION) {
    throw new TypeError(
      `postgres: the schema can be brought up from version 0 to ${SCHEMA_VERSION - 1}, not from ${from}`,
    );
  }
  return `${from === 0 ? `CREATE SCHEMA ${name};\n\n` : ''}${migrationSql(name, from)}\n`;
}

/**
 * Keys are `text COLLATE "C"`: compared byte by byte, whatever the database's locale. A column `…_json` holds the exact
 * text where the key is its hash. Times are milliseconds since the epoch as JavaScript has them. See encoding.ts.
 *
 * Every function that changes a session locks its row in `sessions` first and touches rows of no other session; what
 * changes many rows locks them in the order of their keys, or skips those that are locked. So nothing waits in a
 * circle.
 */
function version1(s: string): string {
  return `
CREATE TABLE ${s}.schema_version (version integer NOT NULL);

CREATE TABLE ${s}.sessions (
  sid text COLLATE "C" PRIMARY KEY,
  sid_json text,
  version bigint NOT NULL,
  -- the key of the owner's name; the name itself is in the header
  owner text COLLATE "C",
  -- field name -> the JSON text of its value
  header jsonb NOT NULL
) WITH (fillfactor = 70, vacuum_truncate = false);
CREATE INDEX sessions_owner ON ${s}.sessions (owner) WHERE owner IS NOT NULL;

CREATE TABLE ${s}.attributes (
  sid text COLLATE "C" REFERENCES ${s}.sessions ON DELETE CASCADE,
  name text COLLATE "C",
  name_json text,
  version bigint NOT NULL,
  value bytea NOT NULL,
  PRIMARY KEY (sid, name)
) WITH (fillfactor = 80, vacuum_truncate = false);
-- no time is spent on compressing: a value may be encrypted or compressed already
ALTER TABLE ${s}.attributes ALTER COLUMN value SET STORAGE EXTERNAL;

-- Apart from the sessions, and with no index on what a touch changes: it rewrites some 60 bytes, in the same page (HOT), and no index.
CREATE TABLE ${s}.accesses (
  sid text COLLATE "C" PRIMARY KEY REFERENCES ${s}.sessions ON DELETE CASCADE,
  last_access double precision NOT NULL,
  idle_ms double precision,
  absolute_at double precision,
  -- when to look at it: never later than it expires, but perhaps earlier
  due_at double precision
) WITH (fillfactor = 50, vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX accesses_due ON ${s}.accesses (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE ${s}.facts (
  key text COLLATE "C" PRIMARY KEY,
  value text NOT NULL,
  expires_at timestamptz NOT NULL
) WITH (fillfactor = 70, vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX facts_expiry ON ${s}.facts (expires_at);

-- False, and nothing written, when the sid exists.
CREATE FUNCTION ${s}.create_session(
  p_sid text, p_sid_json text, p_version bigint, p_owner text, p_header jsonb,
  p_last_access double precision, p_idle_ms double precision, p_absolute_at double precision,
  p_names text[], p_name_jsons text[], p_versions bigint[], p_starts integer[], p_sizes integer[], p_values bytea
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO ${s}.sessions (sid, sid_json, version, owner, header)
    VALUES (p_sid, p_sid_json, p_version, p_owner, jsonb_strip_nulls(p_header))
    ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO ${s}.accesses (sid, last_access, idle_ms, absolute_at, due_at)
    VALUES (p_sid, p_last_access, p_idle_ms, p_absolute_at, least(p_last_access + p_idle_ms, p_absolute_at));
  IF p_names IS NOT NULL THEN
    INSERT INTO ${s}.attributes (sid, name, name_json, version, value)
      SELECT p_sid, n.name, n.name_json, n.version, substring(p_values FROM n.start FOR n.size)
      FROM unnest(p_names, p_name_jsons, p_versions, p_starts, p_sizes) AS n (name, name_json, version, start, size);
  END IF;
  RETURN true;
END $$;

-- The new version; null: the session is gone; 0: an expectation was not met. In the last two cases nothing is written.
CREATE FUNCTION ${s}.commit_session(
  p_sid text, p_header jsonb, p_owner text, p_idle_ms double precision, p_absolute_at double precision,
  p_names text[], p_name_jsons text[], p_starts integer[], p_sizes integer[], p_values bytea, p_deleted text[],
  p_expected_names text[], p_expected_versions bigint[], p_expected_secret text, p_events text[]
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_version bigint;
  v_secret text;
BEGIN
  IF p_expected_names IS NOT NULL OR p_expected_secret IS NOT NULL THEN
    SELECT header ->> 'secretHash' INTO v_secret FROM ${s}.sessions WHERE sid = p_sid FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      RETURN NULL;
    END IF;
    IF p_expected_secret IS NOT NULL AND v_secret IS DISTINCT FROM p_expected_secret THEN
      RETURN 0;
    END IF;
    IF p_expected_names IS NOT NULL AND EXISTS (
      SELECT FROM unnest(p_expected_names, p_expected_versions) AS e (name, version)
      LEFT JOIN ${s}.attributes a ON a.sid = p_sid AND a.name = e.name
      WHERE coalesce(a.version, 0) <> e.version
    ) THEN
      RETURN 0;
    END IF;
  END IF;

  IF p_header IS NULL THEN
    UPDATE ${s}.sessions SET version = version + 1 WHERE sid = p_sid RETURNING version INTO v_version;
  ELSE
    UPDATE ${s}.sessions SET
      version = version + 1,
      owner = CASE WHEN p_header ? 'owner' THEN p_owner ELSE owner END,
      header = jsonb_strip_nulls(header || p_header)
    WHERE sid = p_sid RETURNING version INTO v_version;
  END IF;
  IF v_version IS NULL THEN
    RETURN NULL;
  END IF;

  IF p_header ?| ARRAY['idleTimeoutMs', 'absoluteExpiresAt'] THEN
    UPDATE ${s}.accesses SET
      idle_ms = CASE WHEN p_header ? 'idleTimeoutMs' THEN p_idle_ms ELSE idle_ms END,
      absolute_at = CASE WHEN p_header ? 'absoluteExpiresAt' THEN p_absolute_at ELSE absolute_at END
    WHERE sid = p_sid;
    UPDATE ${s}.accesses SET due_at = least(last_access + idle_ms, absolute_at)
    WHERE sid = p_sid AND (due_at IS NULL OR least(last_access + idle_ms, absolute_at) < due_at);
  END IF;

  IF p_deleted IS NOT NULL THEN
    DELETE FROM ${s}.attributes WHERE sid = p_sid AND name = ANY (p_deleted);
  END IF;
  IF p_names IS NOT NULL THEN
    INSERT INTO ${s}.attributes AS a (sid, name, name_json, version, value)
      SELECT p_sid, n.name, n.name_json, v_version, substring(p_values FROM n.start FOR n.size)
      FROM unnest(p_names, p_name_jsons, p_starts, p_sizes) AS n (name, name_json, start, size)
    ON CONFLICT (sid, name) DO UPDATE SET version = a.version + 1, value = excluded.value;
  END IF;
  IF p_events IS NOT NULL THEN
    PERFORM pg_notify('${sessionChannel(s)}', event) FROM unnest(p_events) AS event;
  END IF;
  RETURN v_version;
END $$;

-- True for who has deleted it. With p_expired_by: only if it expires then or earlier, as things are at this moment.
CREATE FUNCTION ${s}.delete_session(p_sid text, p_expired_by double precision, p_events text[])
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  IF p_expired_by IS NOT NULL THEN
    PERFORM FROM ${s}.sessions WHERE sid = p_sid FOR UPDATE;
    PERFORM FROM ${s}.accesses
      WHERE sid = p_sid AND least(last_access + idle_ms, absolute_at) <= p_expired_by FOR UPDATE;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
  END IF;
  DELETE FROM ${s}.sessions WHERE sid = p_sid;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF p_events IS NOT NULL THEN
    PERFORM pg_notify('${sessionChannel(s)}', event) FROM unnest(p_events) AS event;
  END IF;
  RETURN true;
END $$;

-- Makes due_at exact for the first p_limit rows by it. True when they are; false when it has done enough for one transaction.
CREATE FUNCTION ${s}.settle_due(p_now double precision, p_limit integer)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  FOR round IN 1 .. 4 LOOP
    WITH due AS MATERIALIZED (
      SELECT sid FROM ${s}.accesses WHERE due_at <= p_now ORDER BY due_at LIMIT p_limit
    ), early AS MATERIALIZED (
      SELECT a.sid FROM ${s}.accesses a JOIN due ON due.sid = a.sid
      WHERE a.due_at IS DISTINCT FROM least(a.last_access + a.idle_ms, a.absolute_at)
      FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    UPDATE ${s}.accesses a SET due_at = least(a.last_access + a.idle_ms, a.absolute_at)
    FROM early WHERE a.sid = early.sid;
    IF NOT FOUND THEN
      RETURN true;
    END IF;
  END LOOP;
  RETURN false;
END $$;`.trim();
}

/**
 * A commit gives the record a version that it never had, see `nextVersion`, and its attributes the same. The function
 * of before is still there for processes of the version before, which go on working while others are updated.
 */
function version2(s: string): string {
  return `
-- p_follows: the version that the caller has written last; p_leap: by how much a new lineage is above the one before.
CREATE FUNCTION ${s}.next_version(p_version bigint, p_follows bigint, p_leap bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE
    WHEN p_version = p_follows AND (p_version + 1) % 256 > 0 THEN p_version + 1
    WHEN p_version / 256 + p_leap < (1::bigint << 45) THEN (p_version / 256 + p_leap) * 256
    ELSE p_leap * 256
  END
$$;

-- No row: the session is gone. Nulls: an expectation was not met. In both cases nothing is written.
CREATE FUNCTION ${s}.commit_session(
  p_sid text, p_header jsonb, p_owner text, p_idle_ms double precision, p_absolute_at double precision,
  p_names text[], p_name_jsons text[], p_starts integer[], p_sizes integer[], p_values bytea, p_deleted text[],
  p_expected_names text[], p_expected_versions bigint[], p_expected_secret text, p_events text[],
  p_follows bigint, p_leap bigint
) RETURNS TABLE (new_version bigint, old_version bigint) LANGUAGE plpgsql AS $$
DECLARE
  v_secret text;
BEGIN
  SELECT version, header ->> 'secretHash' INTO old_version, v_secret
  FROM ${s}.sessions WHERE sid = p_sid FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF p_expected_secret IS NOT NULL AND v_secret IS DISTINCT FROM p_expected_secret
    OR p_expected_names IS NOT NULL AND EXISTS (
      SELECT FROM unnest(p_expected_names, p_expected_versions) AS e (name, version)
      LEFT JOIN ${s}.attributes a ON a.sid = p_sid AND a.name = e.name
      WHERE coalesce(a.version, 0) <> e.version
    )
  THEN
    old_version := NULL;
    RETURN NEXT;
    RETURN;
  END IF;
  new_version := ${s}.next_version(old_version, p_follows, p_leap);

  IF p_header IS NULL THEN
    UPDATE ${s}.sessions SET version = new_version WHERE sid = p_sid;
  ELSE
    UPDATE ${s}.sessions SET
      version = new_version,
      owner = CASE WHEN p_header ? 'owner' THEN p_owner ELSE owner END,
      header = jsonb_strip_nulls(header || p_header)
    WHERE sid = p_sid;
  END IF;

  IF p_header ?| ARRAY['idleTimeoutMs', 'absoluteExpiresAt'] THEN
    UPDATE ${s}.accesses SET
      idle_ms = CASE WHEN p_header ? 'idleTimeoutMs' THEN p_idle_ms ELSE idle_ms END,
      absolute_at = CASE WHEN p_header ? 'absoluteExpiresAt' THEN p_absolute_at ELSE absolute_at END
    WHERE sid = p_sid;
    UPDATE ${s}.accesses SET due_at = least(last_access + idle_ms, absolute_at)
    WHERE sid = p_sid AND (due_at IS NULL OR least(last_access + idle_ms, absolute_at) < due_at);
  END IF;

  IF p_deleted IS NOT NULL THEN
    DELETE FROM ${s}.attributes WHERE sid = p_sid AND name = ANY (p_deleted);
  END IF;
  IF p_names IS NOT NULL THEN
    INSERT INTO ${s}.attributes (sid, name, name_json, version, value)
      SELECT p_sid, n.name, n.name_json, new_version, substring(p_values FROM n.start FOR n.size)
      FROM unnest(p_names, p_name_jsons, p_starts, p_sizes) AS n (name, name_json, start, size)
    ON CONFLICT (sid, name) DO UPDATE SET version = excluded.version, value = excluded.value;
  END IF;
  IF p_events IS NOT NULL THEN
    PERFORM pg_notify('${sessionChannel(s)}', event) FROM unnest(p_events) AS event;
  END IF;
  RETURN NEXT;
END $$;`.trim();
}
