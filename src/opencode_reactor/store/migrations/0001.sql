-- The first schema. One text for every driver: SERIAL_KEY is replaced by the driver's own growing key.
-- Times are epoch milliseconds by the store's clock, JSON is text, what is searched for is a real column.
-- Expand, then contract: a later migration may only add what this reactor can live with.

CREATE TABLE lease (
    server TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    until BIGINT NOT NULL
);

CREATE TABLE run (
    id TEXT PRIMARY KEY,
    pipeline TEXT NOT NULL,
    server TEXT NOT NULL,
    directory TEXT NOT NULL,
    spec TEXT NOT NULL,
    inputs TEXT NOT NULL,
    state TEXT NOT NULL,
    waiting_on TEXT,
    failure TEXT,
    detail TEXT NOT NULL,
    created BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    ended BIGINT,
    rev BIGINT NOT NULL,
    wake_at BIGINT
);
CREATE INDEX run_newest ON run (created, id);
CREATE INDEX run_state ON run (state, created, id);
CREATE INDEX run_live ON run (server) WHERE state IN ('queued', 'running', 'waiting');

CREATE TABLE stage (
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    position BIGINT NOT NULL,
    state TEXT NOT NULL,
    waiting_on TEXT,
    failure TEXT,
    detail TEXT NOT NULL,
    output TEXT NOT NULL,
    text TEXT NOT NULL,
    summary TEXT NOT NULL,
    started BIGINT,
    ended BIGINT,
    extra_attempts BIGINT NOT NULL,
    PRIMARY KEY (run, name)
);

CREATE TABLE attempt (
    run TEXT NOT NULL,
    stage TEXT NOT NULL,
    number BIGINT NOT NULL,
    server TEXT NOT NULL,
    state TEXT NOT NULL,
    turn TEXT NOT NULL,
    created BIGINT NOT NULL,
    provider TEXT,
    model TEXT,
    session TEXT,
    not_before BIGINT NOT NULL,
    started BIGINT,
    ended BIGINT,
    deadline BIGINT,
    waiting_on TEXT,
    waiting_since BIGINT,
    aborted BIGINT,
    quiet_since BIGINT,
    retrying_since BIGINT,
    failure TEXT,
    detail TEXT NOT NULL,
    repairs TEXT NOT NULL,
    text TEXT NOT NULL,
    output TEXT NOT NULL,
    tokens_input BIGINT NOT NULL,
    tokens_output BIGINT NOT NULL,
    tokens_reasoning BIGINT NOT NULL,
    tokens_cache_read BIGINT NOT NULL,
    tokens_cache_write BIGINT NOT NULL,
    cost DOUBLE PRECISION NOT NULL,
    evidence TEXT NOT NULL,
    PRIMARY KEY (run, stage, number),
    FOREIGN KEY (run, stage) REFERENCES stage (run, name) ON DELETE CASCADE
);
-- Two live attempts of one stage are impossible, whatever the code above does.
CREATE UNIQUE INDEX attempt_one_open ON attempt (run, stage)
    WHERE state NOT IN ('succeeded', 'failed', 'cancelled');
CREATE INDEX attempt_session ON attempt (server, session) WHERE session IS NOT NULL;

CREATE TABLE journal (
    seq SERIAL_KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    stage TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    what TEXT NOT NULL,
    facts TEXT NOT NULL
);
CREATE INDEX journal_run ON journal (run, seq);

CREATE TABLE command (
    id SERIAL_KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    stage TEXT NOT NULL,
    issuer TEXT NOT NULL,
    at BIGINT NOT NULL,
    taken BIGINT
);
CREATE INDEX command_waiting ON command (run) WHERE taken IS NULL;

-- No reference to run: asks of sessions that no pipeline owns are kept too.
CREATE TABLE ask (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    server TEXT NOT NULL,
    request TEXT NOT NULL,
    directory TEXT NOT NULL,
    session TEXT NOT NULL,
    root TEXT NOT NULL,
    run TEXT NOT NULL,
    stage TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    title TEXT NOT NULL,
    detail TEXT NOT NULL,
    permission TEXT NOT NULL,
    patterns TEXT NOT NULL,
    questions TEXT NOT NULL,
    state TEXT NOT NULL,
    reply TEXT,
    answers TEXT NOT NULL,
    message TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    answered BIGINT,
    opened BIGINT NOT NULL,
    expires BIGINT,
    closed BIGINT,
    closed_as TEXT,
    rev BIGINT NOT NULL
);
CREATE INDEX ask_request ON ask (request);
CREATE INDEX ask_run ON ask (run);
CREATE INDEX ask_state ON ask (state, opened);

CREATE TABLE delivery (
    id SERIAL_KEY,
    handler TEXT NOT NULL,
    server TEXT NOT NULL,
    event TEXT NOT NULL,
    name TEXT NOT NULL,
    lane TEXT NOT NULL,
    directory TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    error TEXT NOT NULL,
    created BIGINT NOT NULL,
    recovered SMALLINT NOT NULL,
    finished BIGINT,
    UNIQUE (handler, server, event)
);
CREATE INDEX delivery_pending ON delivery (server, id) WHERE state = 'pending';
CREATE INDEX delivery_dead ON delivery (id) WHERE state = 'dead';
CREATE INDEX delivery_done ON delivery (finished) WHERE state = 'done';
