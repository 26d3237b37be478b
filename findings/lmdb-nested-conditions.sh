#!/usr/bin/env bash
# lmdb 3.5.6 (lmdb-js): what stands in a conditional block is not all conditional once another condition is nested in it.
# ifVersion(key, version, callback) looks like "all of this or nothing". Where its condition is not met:
#   - writes before a nested condition are left out, as expected;
#   - writes behind it, in the same callback, are done all the same;
#   - a nested ifNoExists resolves with true although it wrote nothing (a nested ifVersion resolves with false).
# So put what belongs together before the one nested condition, and trust the promise of the outer one. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund lmdb@3.5.6
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open } from 'lmdb';
const root = open({ path: 'data', overlappingSync: false });
const one = root.openDB({ name: 'one', useVersions: true });
const two = root.openDB({ name: 'two', useVersions: true });
await one.put('guard', 'as it was', 1);
let nested;
const outer = one.ifVersion('guard', 999, () => { // it has version 1: not met
  two.put('before', 'written', 1);
  nested = two.ifNoExists('inside', () => { two.put('inside', 'written', 1); });
  two.put('behind', 'written', 1);
});
const seen = {
  version: JSON.parse(readFileSync('node_modules/lmdb/package.json', 'utf8')).version,
  'outer condition': await outer,
  'nested ifNoExists': await nested,
  before: two.get('before') ?? null,
  inside: two.get('inside') ?? null,
  behind: two.get('behind') ?? null,
};
console.log(seen);
await root.close();
assert.deepEqual(seen, {
  version: '3.5.6', 'outer condition': false, 'nested ifNoExists': true, before: null, inside: null, behind: 'written',
});
PROGRAM
timeout 30 node program.mjs
