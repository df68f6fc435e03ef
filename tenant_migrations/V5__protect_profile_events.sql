-- What was done to a profile is only ever added to: of the roles other than the owner of the table, which are the
-- tenant's own or the shared login, none may change or delete an event. Their names differ from tenant to tenant, so
-- they are read from the table's privileges.
-- rowhouse: allow not-checked The block revokes and does nothing else.
DO $$
DECLARE
    grantee regrole;
BEGIN
    FOR grantee IN
        SELECT DISTINCT a.grantee
          FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
         WHERE c.oid = 'profile_events'::regclass AND a.grantee <> c.relowner AND a.grantee <> 0
    LOOP
        EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON profile_events FROM %s', grantee);
    END LOOP;
END
$$;
