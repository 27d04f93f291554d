-- What a token is bound to beyond its role: projects, and names of sidecars, as JSON; {}: to nothing.
ALTER TABLE tokens ADD COLUMN scope TEXT NOT NULL DEFAULT '{}';
