-- A person's words to a run: kept until the transaction that obeys them.

-- name: add_command
INSERT INTO command (run, kind, stage, issuer, at)
SELECT id, :kind, :stage, :issuer, clock_ms() FROM run WHERE id = :run
RETURNING *;

-- name: commands
SELECT * FROM command WHERE run = :run AND taken IS NULL ORDER BY id;

-- name: commanded_runs
SELECT id FROM run
WHERE id IN (SELECT run FROM command WHERE taken IS NULL) AND server = :server
ORDER BY id;

-- name: take_command
UPDATE command SET taken = clock_ms()
WHERE id = :id AND run = :run AND taken IS NULL;
