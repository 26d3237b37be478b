#!/usr/bin/env bash
# undici 8.13.1 (and the fetch of Node 26): formData() rejects a multipart body if a value contains the text of the boundary.
# In multipart (RFC 2046, 5.1.1) a part ends at a line break, two hyphens and the boundary; the text of the boundary alone is ordinary content. formData()
# takes its first occurrence for the end of the part. The long random boundaries of browsers do not occur in values, but those in hand-written clients do:
# with `boundary=boundary`, a note that says "a boundary" makes formData() throw for the whole body, while "a border" is read. busboy 1.6.0 reads both.
# Where clients choose short boundaries, read their bodies with another parser. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund undici@8.13.1 busboy@1.6.0
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import busboy from 'busboy';
import * as undici from 'undici';

const type = 'multipart/form-data; boundary=boundary';
const body = note =>
  ['--boundary', 'Content-Disposition: form-data; name="note"', '', note, '--boundary--', ''].join('\r\n');

const byFormData = Response => async note => {
  const response = new Response(body(note), { headers: { 'Content-Type': type } });
  return response.formData().then(form => form.get('note'), error => `${error.message} (${error.cause?.message})`);
};
async function byBusboy(note) {
  const fields = {};
  const parser = busboy({ headers: { 'content-type': type } });
  parser.on('field', (name, value) => { fields[name] = value; });
  parser.end(body(note));
  await once(parser, 'close');
  return fields.note;
}

const seen = {};
for (const note of ['a border', 'a boundary']) {
  seen[note] = { undici: await byFormData(undici.Response)(note), busboy: await byBusboy(note) };
}
const version = name => JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version;
console.log(`undici ${version('undici')}, busboy ${version('busboy')}`);
console.log(seen);
console.log(`Node ${process.version} by itself (undici ${process.versions.undici}): ${await byFormData(Response)('a boundary')}`);
assert.deepEqual(seen, {
  'a border': { undici: 'a border', busboy: 'a border' },
  'a boundary': { undici: 'Failed to parse body as FormData. (expected CRLF)', busboy: 'a boundary' },
});
PROGRAM
node program.mjs
