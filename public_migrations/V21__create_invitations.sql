-- An address belongs to its owner, and not to the first caller who writes it. Since when it is certain that the
-- account's holder is the owner of its address; null while it is not. It is certain where the owner accepted an
-- invitation, and where the root, the operator or a SUPER_ADMIN named the address. Only a proven account is linked
-- on another caller's word.
ALTER TABLE users ADD COLUMN address_proven_at timestamptz;

-- Accounts from before: proven where the root, the operator or a SUPER_ADMIN created the account, which the audit
-- event of the same moment tells. An account that a tenant's admin or a token created is not proven, whatever it was
-- used for since: its creator chose its password. (A user with a platform role always counts as proven.)
UPDATE users u
   SET address_proven_at = u.created_at
 WHERE EXISTS (
           SELECT
             FROM audit_events e
            WHERE e.at = u.created_at
              AND e.action IN ('tenant.create', 'member.add', 'user.ensure_admin')
              AND (e.actor IN ('root', 'operator')
                   OR e.actor IN (SELECT 'user:' || s.id::text FROM users s WHERE s.platform_role = 'SUPER_ADMIN')));

-- When the user agreed to the membership; null if they did not. Such a membership gives the tenant's admins no power
-- over the account, and does not keep admins of other tenants from resetting its password.
ALTER TABLE memberships ADD COLUMN accepted_at timestamptz;
-- A membership from before of which nothing tells whether the user agreed. It gives no power, and it counts against
-- the power of others, as it always did: otherwise an upgrade would let the admin of one tenant reset the password of
-- the admin of another.
ALTER TABLE memberships ADD COLUMN predates_acceptance boolean NOT NULL DEFAULT false;

-- Memberships from before: accepted where the account was created with them, so that no other tenant had a claim on
-- it, and where the root, the operator or a SUPER_ADMIN made them.
UPDATE memberships m
   SET accepted_at = m.created_at
  FROM users u
 WHERE u.id = m.user_id
   AND (m.created_at = u.created_at
        OR EXISTS (
               SELECT
                 FROM audit_events e
                WHERE e.tenant_id = m.tenant_id
                  AND e.at = m.created_at
                  AND e.action IN ('tenant.create', 'member.add')
                  AND (e.actor IN ('root', 'operator')
                       OR e.actor IN (SELECT 'user:' || s.id::text FROM users s WHERE s.platform_role = 'SUPER_ADMIN'))));
UPDATE memberships SET predates_acceptance = true WHERE accepted_at IS NULL;

-- A row that an operator writes by hand is the operator's word. The program always writes the column.
ALTER TABLE memberships ALTER COLUMN accepted_at SET DEFAULT now();

-- Invitations to a tenant. The link's token is shown to the inviter once and is not here.
CREATE TABLE invitations (
    id uuid NOT NULL CONSTRAINT invitations_pkey PRIMARY KEY,
    -- SHA-256 of the token.
    digest bytea NOT NULL CONSTRAINT invitations_digest_key UNIQUE,
    tenant_id uuid NOT NULL,
    -- Whose account becomes the member; trimmed and in lower case, as in users.
    email text NOT NULL,
    role text NOT NULL CONSTRAINT invitations_role_check CHECK (role IN ('ADMIN', 'FDE', 'VIEWER')),
    -- The inviter, as audit events name callers. The rights of the inviter are asked for when the invitation is used:
    -- those of the user, of the token or API key, or, where both are null, of the root or the operator.
    created_by text NOT NULL,
    inviter_user_id uuid,
    inviter_token_id uuid,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    -- The account that accepted it.
    accepted_by uuid,
    revoked_at timestamptz,
    CONSTRAINT invitations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants (id) ON DELETE CASCADE
);

CREATE INDEX invitations_tenant_id_idx ON invitations (tenant_id, created_at, id);
