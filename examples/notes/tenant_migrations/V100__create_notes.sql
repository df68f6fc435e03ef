CREATE TABLE notebooks (
    id uuid NOT NULL CONSTRAINT notebooks_pkey PRIMARY KEY,
    title text NOT NULL CONSTRAINT notebooks_title_key UNIQUE
);
CREATE TABLE notes (
    id uuid NOT NULL CONSTRAINT notes_pkey PRIMARY KEY,
    notebook_id uuid NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    words tsvector NOT NULL,
    deleted_at timestamptz,
    CONSTRAINT notes_notebook_fkey FOREIGN KEY (notebook_id) REFERENCES notebooks (id),
    CONSTRAINT notes_title_key UNIQUE (notebook_id, title)
);
CREATE INDEX notes_words_idx ON notes USING gin (words);
