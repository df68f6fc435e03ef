-- The filters of the control plane's lists, each in the order of its list, so that a page ends with its last
-- row however many rows there are. A text within a name (`q`) has none: the trigrams that could index it are
-- an extension that not every server has, and reading 10,000 tenants in order takes a few milliseconds.
CREATE INDEX tenants_status_idx ON tenants (status, created_at, id);
CREATE INDEX tenants_name_idx ON tenants (name, created_at, id);
CREATE INDEX audit_events_action_idx ON audit_events (action, at, id);
CREATE INDEX audit_events_actor_idx ON audit_events (actor, at, id);
