// A consumer of PgQ as one writes it in Node: reads batches of events, and sends the rows in them to
// HubSpot, 100 a call, several calls at a time. Each line of its input has it send what is there;
// it answers with the number of events, once all of them are through.
//
// Usage: node pgq.mjs directory-of-the-socket user database queue consumer base-url token calls

import http from 'node:http';
import readline from 'node:readline';
import pg from 'pg';

const [host, user, database, queue, consumer, base, token, calls] = process.argv.slice(2);
const RECORDS = 100;
const EVENTS = 1000;
const FIELDS = {
  firstname: 'first_name',
  lastname: 'last_name',
  phone: 'phone',
  company: 'company',
  jobtitle: 'job_title',
  city: 'city',
};

const agent = new http.Agent({ keepAlive: true, maxSockets: Number(calls) });
const server = new URL(base);
const db = new pg.Client({ host, user, database });
await db.connect();
// Its server process, for whoever wants to know what that takes.
const { rows } = await db.query('SELECT pg_backend_pid() AS pid');
console.log(rows[0].pid);

for await (const line of readline.createInterface({ input: process.stdin })) {
  if (line === 'drain') console.log(await drain());
}
process.exit();

async function drain() {
  let events = 0;
  for (;;) {
    const next = await db.query('SELECT pgq.next_batch($1, $2) AS batch', [queue, consumer]);
    const { batch } = next.rows[0];
    if (batch === null) return events;
    events += await consume(batch);
    await db.query('SELECT pgq.finish_batch($1)', [batch]);
  }
}

// Sends a batch; returns how many events it held.
async function consume(batch) {
  const underWay = new Set();
  let events = 0;
  let inputs = [];
  const leave = async () => {
    if (underWay.size >= Number(calls)) await Promise.race(underWay);
    const call = send(inputs).finally(() => underWay.delete(call));
    underWay.add(call);
    inputs = [];
  };
  await db.query('BEGIN');
  let { rows } = await db.query('SELECT ev_data FROM pgq.get_batch_cursor($1, $2, $3)', [
    batch,
    'events',
    EVENTS,
  ]);
  while (rows.length > 0) {
    for (const { ev_data } of rows) {
      inputs.push(input(JSON.parse(ev_data)));
      if (inputs.length === RECORDS) await leave();
    }
    events += rows.length;
    ({ rows } = await db.query(`FETCH ${EVENTS} FROM events`));
  }
  if (inputs.length > 0) await leave();
  await Promise.all(underWay);
  await db.query('COMMIT');
  return events;
}

function input(row) {
  const properties = { email: row.email };
  for (const [property, column] of Object.entries(FIELDS)) {
    if (row[column] !== null) properties[property] = row[column];
  }
  return { id: row.email, idProperty: 'email', properties };
}

async function send(inputs) {
  const answer = await post('/crm/objects/2026-09/contacts/batch/upsert', { inputs });
  const taken = new Set(answer.results.map(({ properties }) => properties.email));
  const left = inputs.filter(({ id }) => !taken.has(id));
  if (left.length > 0) throw new Error(`${left.length} records were not taken, as ${left[0].id}`);
}

function post(path, body) {
  const content = JSON.stringify(body);
  const options = {
    agent,
    method: 'POST',
    host: server.hostname,
    port: server.port,
    path,
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(content),
    },
  };
  return new Promise((resolve, reject) => {
    const request = http.request(options, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(parts).toString();
        if (response.statusCode !== 200) reject(new Error(`${response.statusCode}: ${text}`));
        else resolve(JSON.parse(text));
      });
    });
    request.on('error', reject);
    request.end(content);
  });
}
