-- Each row of the audit log waits to be sealed from its own transaction on; and old rows may go, in one way.

CREATE FUNCTION audit_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit_unsealed (subject_id, seq) VALUES (NEW.subject_id, NEW.seq);
    RETURN NULL;
END $$;
CREATE TRIGGER audit_queue AFTER INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_queue();
INSERT INTO audit_unsealed (subject_id, seq) SELECT subject_id, seq FROM audit ORDER BY subject_id, seq;

CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('sextant.expiring', true) = 'on' THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;

-- Takes out the rows of a tenant's jobs that ended, and had their last change, before p_before: sealed ones alone, whose
-- leaves stay. What was taken out, and by whom, is a row of the log itself. Returns the number of rows.
CREATE FUNCTION audit_expire(p_tenant text, p_before timestamptz, p_actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint;
BEGIN
    IF p_before > clock_timestamp() - interval '30 days' THEN
        RAISE EXCEPTION 'rows younger than 30 days stay' USING ERRCODE = 'check_violation';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('audit_expire', 0));
    PERFORM set_config('sextant.expiring', 'on', true);
    DELETE FROM audit a USING jobs j
    WHERE a.subject_id = j.id AND j.tenant = p_tenant AND j.finished_at IS NOT NULL AND j.changed_at < p_before
      AND NOT EXISTS (SELECT 1 FROM audit_unsealed u WHERE u.subject_id = j.id);
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('sextant.expiring', '', true);
    IF gone > 0 THEN
        PERFORM audit_append(
            'audit', md5('audit of ' || p_tenant)::uuid, p_tenant, p_actor, 'audit.expired', NULL, NULL,
            jsonb_build_object('before', to_char(p_before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'rows', gone));
    END IF;
    RETURN gone;
END $$;
REVOKE EXECUTE ON FUNCTION audit_expire(text, timestamptz, text) FROM PUBLIC;
