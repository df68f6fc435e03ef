CREATE TABLE tags (
    note_id uuid NOT NULL,
    name text NOT NULL,
    CONSTRAINT tags_pkey PRIMARY KEY (note_id, name),
    CONSTRAINT tags_note_fkey FOREIGN KEY (note_id) REFERENCES notes (id) ON DELETE CASCADE
);
