-- The database's own wall around job state. Whoever writes a job's row:
--   * a change of state or fence must bump seq by one and be a legal transition;
--   * each seq gets its audit row, chained by hash, and its outbox row, in the same transaction;
--   * nothing of the audit log can be changed or taken away.
-- What a transition should be is decided in sextant_shared.lifecycle.machine; this file only refuses and records.

CREATE FUNCTION audit_hash(
    prev bytea, subject_type text, subject_id uuid, seq bigint, at timestamptz, actor text, event text,
    from_state text, to_state text, fence bigint, attempt integer, body text
) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS $$
    -- SHA-256(0x01 || previous hash || JSON array of the row's fields, the body by its own hash)
    SELECT sha256('\x01'::bytea || prev || convert_to(json_build_array(
        subject_type, subject_id, seq, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        actor, event, from_state, to_state, fence, attempt, encode(sha256(convert_to(body, 'UTF8')), 'hex')
    )::text, 'UTF8'))
$$;

CREATE FUNCTION jobs_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came_from text := NULL;
    prev bytea := '\x';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.seq = OLD.seq THEN
            IF (NEW.state, NEW.fence, NEW.audit_hash) IS DISTINCT FROM (OLD.state, OLD.fence, OLD.audit_hash) THEN
                RAISE EXCEPTION 'job %: state and fence change only with the next seq', OLD.id USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END IF;
        IF NEW.seq <> OLD.seq + 1 THEN
            RAISE EXCEPTION 'job %: seq % does not follow %', OLD.id, NEW.seq, OLD.seq USING ERRCODE = 'check_violation';
        END IF;
        IF NEW.fence <> OLD.fence AND NOT (NEW.fence = OLD.fence + 1 AND NEW.state = 'RUNNING') THEN
            RAISE EXCEPTION 'job %: the fence rises by one, at a claim', OLD.id USING ERRCODE = 'check_violation';
        END IF;
        came_from := OLD.state;
        prev := OLD.audit_hash;
    END IF;
    IF NEW.state IS DISTINCT FROM came_from AND NOT EXISTS (
        SELECT 1 FROM legal_transition l
        WHERE l.from_state IS NOT DISTINCT FROM came_from AND l.to_state = NEW.state
    ) THEN
        RAISE EXCEPTION 'job %: % -> % is no legal transition', NEW.id, came_from, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    NEW.changed_at := clock_timestamp();
    NEW.audit_hash := audit_hash(prev, 'job', NEW.id, NEW.seq, NEW.changed_at, NEW.actor, NEW.event,
                                 came_from, NEW.state, NEW.fence, NEW.attempt, NEW.detail::text);
    RETURN NEW;
END $$;

CREATE FUNCTION jobs_record() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came_from text := NULL;
    prev bytea := '\x';
    message_id text := NEW.id || ':' || NEW.seq;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.seq = OLD.seq THEN RETURN NULL; END IF;
        came_from := OLD.state;
        prev := OLD.audit_hash;
    END IF;
    INSERT INTO audit (subject_type, subject_id, seq, at, tenant, actor, event, from_state, to_state, fence, attempt, body, prev_hash, hash)
    VALUES ('job', NEW.id, NEW.seq, NEW.changed_at, NEW.tenant, NEW.actor, NEW.event, came_from, NEW.state,
            NEW.fence, NEW.attempt, NEW.detail::text, prev, NEW.audit_hash);
    INSERT INTO outbox (msg_id, subject, payload)
    VALUES (message_id, 'jobs.' || NEW.kind || '.' || lower(NEW.state) || '.v1', jsonb_build_object(
        'type', 'job.state.v1', 'event_id', message_id, 'occurred_at', NEW.changed_at, 'correlation_id', NEW.root_id,
        'job_id', NEW.id, 'root_id', NEW.root_id, 'parent_id', NEW.parent_id, 'tenant', NEW.tenant, 'kind', NEW.kind,
        'name', NEW.name, 'step', NEW.step, 'seq', NEW.seq, 'event', NEW.event, 'from_state', came_from, 'state', NEW.state,
        'fence', NEW.fence, 'attempt', NEW.attempt));
    -- An attempt lasts from the claim until the job is no longer held.
    IF TG_OP = 'UPDATE' AND NEW.fence <> OLD.fence THEN
        INSERT INTO attempts (job_id, fence, worker, started_at) VALUES (NEW.id, NEW.fence, NEW.lease_owner, NEW.changed_at);
    ELSIF TG_OP = 'UPDATE' AND OLD.state IN ('RUNNING', 'PAUSING', 'CANCELLING')
          AND NEW.state NOT IN ('RUNNING', 'PAUSING', 'CANCELLING') THEN
        UPDATE attempts SET ended_at = NEW.changed_at, outcome = NEW.event, error = nullif(NEW.detail, '{}')
        WHERE job_id = NEW.id AND fence = NEW.fence;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_guard BEFORE INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION jobs_guard();
CREATE TRIGGER jobs_record AFTER INSERT OR UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION jobs_record();

-- Changes to anything but a job: keys, endpoints, uploads. The caller holds a lock on the subject's own row.
CREATE FUNCTION audit_append(
    p_type text, p_id uuid, p_tenant text, p_actor text, p_event text, p_from text, p_to text, p_body jsonb
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    last audit%ROWTYPE;
    next_seq bigint;
    now_at timestamptz := clock_timestamp();
    prev bytea;
BEGIN
    SELECT * INTO last FROM audit a WHERE a.subject_id = p_id ORDER BY a.seq DESC LIMIT 1;
    next_seq := coalesce(last.seq, 0) + 1;
    prev := coalesce(last.hash, '\x');
    INSERT INTO audit (subject_type, subject_id, seq, at, tenant, actor, event, from_state, to_state, fence, attempt, body, prev_hash, hash)
    VALUES (p_type, p_id, next_seq, now_at, p_tenant, p_actor, p_event, p_from, p_to, 0, 0, p_body::text, prev,
            audit_hash(prev, p_type, p_id, next_seq, now_at, p_actor, p_event, p_from, p_to, 0, 0, p_body::text));
    INSERT INTO outbox (msg_id, subject, payload)
    VALUES (p_id || ':' || next_seq, p_type || 's.' || p_event || '.v1', jsonb_build_object(
        'type', p_type || '.changed.v1', 'event_id', p_id || ':' || next_seq, 'occurred_at', now_at,
        'subject_id', p_id, 'tenant', p_tenant, 'event', p_event, 'body', p_body));
    RETURN next_seq;
END $$;

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

INSERT INTO legal_transition (from_state, to_state) VALUES
    (NULL, 'BLOCKED'),
    (NULL, 'QUEUED'),
    ('BLOCKED', 'CANCELLED'),
    ('BLOCKED', 'FAILED'),
    ('BLOCKED', 'PAUSED'),
    ('BLOCKED', 'QUEUED'),
    ('BLOCKED', 'SKIPPED'),
    ('QUEUED', 'CANCELLED'),
    ('QUEUED', 'CANCELLING'),
    ('QUEUED', 'PAUSED'),
    ('QUEUED', 'RESERVED'),
    ('QUEUED', 'RUNNING'),
    ('RESERVED', 'CANCELLED'),
    ('RESERVED', 'PAUSED'),
    ('RESERVED', 'QUEUED'),
    ('RESERVED', 'RUNNING'),
    ('RUNNING', 'CANCELLING'),
    ('RUNNING', 'FAILED'),
    ('RUNNING', 'PAUSED'),
    ('RUNNING', 'PAUSING'),
    ('RUNNING', 'QUARANTINED'),
    ('RUNNING', 'QUEUED'),
    ('RUNNING', 'RETRY_WAIT'),
    ('RUNNING', 'SUCCEEDED'),
    ('RETRY_WAIT', 'CANCELLED'),
    ('RETRY_WAIT', 'PAUSED'),
    ('RETRY_WAIT', 'QUEUED'),
    ('PAUSING', 'CANCELLING'),
    ('PAUSING', 'FAILED'),
    ('PAUSING', 'PAUSED'),
    ('PAUSING', 'QUARANTINED'),
    ('PAUSING', 'SUCCEEDED'),
    ('PAUSED', 'BLOCKED'),
    ('PAUSED', 'CANCELLED'),
    ('PAUSED', 'CANCELLING'),
    ('PAUSED', 'QUEUED'),
    ('CANCELLING', 'CANCELLED'),
    ('CANCELLING', 'SUCCEEDED'),
    ('QUARANTINED', 'QUEUED');
