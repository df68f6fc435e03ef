-- works with: V40
-- Until when a tenant answers no request, because what is in it is exchanged with what is in another one; NULL: it answers.
-- A time and not a flag, so that a process that dies in between does not keep the tenant closed.
ALTER TABLE tenants ADD COLUMN closed_until timestamptz;
