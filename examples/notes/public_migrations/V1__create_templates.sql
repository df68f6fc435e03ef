-- Notebooks that every new tenant begins with.
CREATE TABLE templates (
    title text NOT NULL CONSTRAINT templates_pkey PRIMARY KEY
);
INSERT INTO templates (title) VALUES ('Work'), ('Home');
