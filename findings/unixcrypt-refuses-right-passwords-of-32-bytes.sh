#!/usr/bin/env bash
# unixcrypt 3.0.4 (sha256crypt and sha512crypt in JavaScript): the right password is refused when it is as long as a digest, or a multiple of it:
# 32, 64, 96 ... bytes for $5$, and 64, 128 ... for $6$. A hash that it makes of such a password itself is verified by nobody else, crypt() and OpenSSL included.
# Two loops run while `offset + digestSize < length`, so that a length which the digest fills exactly lacks its last block, and the remainder is 0.
# A user whose password manager makes passwords of 32 or 64 characters cannot sign in. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private":true,"type":"module"}' > package.json
npm install --silent --no-audit --no-fund unixcrypt@3.0.4
cat > program.mjs <<'PROGRAM'
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { verify } from 'unixcrypt';

function refusedLengths(form) {
  const refused = [];
  for (let length = 1; length <= 130; length++) {
    const password = 'x'.repeat(length);
    const hash = execFileSync('openssl', ['passwd', form, '-salt', 'rounds=1000$salt', '-stdin'], { input: `${password}\n` });
    if (!verify(password, hash.toString().trim())) refused.push(length);
  }
  return refused;
}
const seen = { '-5': refusedLengths('-5'), '-6': refusedLengths('-6') };
console.log('right passwords that are refused, by length:', seen);
assert.deepEqual(seen, { '-5': [32, 64, 96, 128], '-6': [64, 128] });
PROGRAM
node program.mjs
