-- A person's words to a run: kept until the transaction that obeys them.

-- name: add_command
INSERT INTO command (run, kind, stage, issuer, at)
SELECT id, :kind, :stage, :issuer, clock_ms() FROM run WHERE id = :run
RETURNING *;

-- name: commands
SELECT * FROM command WHERE run = :run AND taken IS NULL ORDER BY id;

-- name: commanded_runs
SELECT DISTINCT run.id AS id
FROM command INNER JOIN run ON run.id = command.run
WHERE command.taken IS NULL AND run.server = :server
ORDER BY run.id;

-- name: take_command
UPDATE command SET taken = clock_ms()
WHERE id = :id AND run = :run AND taken IS NULL;
