// node-postgres for the driver tests: one connection, statements as lines of JSON in, answers as lines of JSON out.
//
// in   {"sql": "SELECT $1::int", "params": [7]}     without "params": the simple protocol
// out  {"rows": [[7]], "notices": []}               or {"error": {"sqlstate", "message", "detail"}, "notices": []}
//
// Statements with parameters are named, and so prepared once and kept: the driver parses each name only once.

'use strict';

const { createHash } = require('node:crypto');
const { createInterface } = require('node:readline');
const { Client, types } = require('pg');

const INT8 = 20;
types.setTypeParser(INT8, Number);
// As text, as the other drivers' adapters have it.
const TIMES = [1082, 1083, 1114, 1184, 1266];
TIMES.forEach((type) => types.setTypeParser(type, (text) => text));

let notices = [];

function answer(told) {
  console.log(JSON.stringify({ ...told, notices }));
  notices = [];
}

function complain(error) {
  const sqlstate = /^[0-9A-Z]{5}$/.test(error.code ?? '') ? error.code : '08006';
  answer({ error: { sqlstate, message: error.message, detail: error.detail ?? null } });
}

function connect({ port, user, password, database, options }) {
  const client = new Client({ host: '127.0.0.1', port, user, password, database, options: options || undefined });
  client.on('notice', (notice) => notices.push(`${notice.code} ${notice.message}`));
  // The statement under way is told; without a listener the process would end.
  client.on('error', () => {});
  return client;
}

function query({ sql, params }) {
  if (params === undefined) return { text: sql };
  const name = createHash('sha256').update(sql).digest('hex').slice(0, 32);
  return { text: sql, values: params, name, rowMode: 'array' };
}

async function main() {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const client = connect(JSON.parse((await lines.next()).value));
  try {
    await client.connect();
  } catch (error) {
    complain(error);
    process.exit(0);
  }
  answer({ rows: [] });
  for await (const line of lines) {
    const asked = JSON.parse(line);
    try {
      const { rows } = await client.query(query(asked));
      answer({ rows: asked.params === undefined ? [] : rows });
    } catch (error) {
      complain(error);
    }
  }
  await client.end();
}

main();
