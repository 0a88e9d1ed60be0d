-- Who may act on a server. Judged by the store's clock alone; the row stays so that the epoch only grows.

-- name: take_lease
INSERT INTO lease (server, owner, epoch, until)
VALUES (:server, :owner, 1, clock_ms() + :ttl)
ON CONFLICT (server) DO UPDATE
SET owner = excluded.owner, epoch = lease.epoch + 1, until = excluded.until
WHERE lease.until <= clock_ms() OR lease.owner = excluded.owner
RETURNING server, owner, epoch, until;

-- name: take_over_lease
-- From a holder that is gone, whatever is left of its time: the epoch is the one it was seen with.
UPDATE lease SET owner = :owner, epoch = epoch + 1, until = clock_ms() + :ttl
WHERE server = :server AND epoch = :epoch
RETURNING server, owner, epoch, until;

-- name: renew_lease
UPDATE lease SET until = clock_ms() + :ttl
WHERE server = :server AND owner = :owner AND epoch = :epoch AND until > clock_ms()
RETURNING server, owner, epoch, until;

-- name: drop_lease
UPDATE lease SET owner = '', until = 0
WHERE server = :server AND owner = :owner AND epoch = :epoch;

-- name: standing_lease
SELECT server, owner, epoch, until FROM lease
WHERE server = :server AND until > clock_ms();

-- name: fence
-- First in every owner's unit. A lease that ran out unnoticed still fences: nobody took over yet.
-- (PostgreSQL will want FOR SHARE here: at READ COMMITTED a takeover may commit beside us.)
SELECT epoch FROM lease
WHERE server = :server AND owner = :owner AND epoch = :epoch;

-- name: store_id
SELECT value FROM meta WHERE key = 'store_id';
