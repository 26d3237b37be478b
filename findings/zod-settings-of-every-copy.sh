#!/usr/bin/env bash
# zod 4.6.7 beside zod 4.5.0: `z.config()` sets what every copy of zod in the process does, of other versions too, as the settings lie on `globalThis`. A library that has zod
# for itself, in its own node_modules or bundled into its file, and asks its copy for German messages or for messages of its own, changes those of the application and of each other
# library. zod 4.1.13 has settings of its own: 4.5.0 installed beside it leaves it as it is. Bundling a copy is therefore no way to keep settings apart; what can be given with
# one call (`schema.safeParse(value, { error, jitless })`) is. Exits non-zero when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{ "private": true, "type": "module" }' > package.json
npm install --silent --no-audit --no-fund application@npm:zod@4.6.7 library@npm:zod@4.5.0 former@npm:zod@4.1.13
cat > program.js <<'PROGRAM'
import * as application from 'application';
import * as former from 'former';
import * as library from 'library';

const messageOf = z => z.string().safeParse(1).error.issues[0].message;
const seen = {};
seen.before = [application, former].map(messageOf);
library.config(library.locales.de());
seen.afterLocaleOfLibrary = [application, former].map(messageOf);
library.config({ customError: () => 'said by the library' });
seen.afterErrorsOfLibrary = [application, former].map(messageOf);
seen.givenWithOneCall = library.string().safeParse(1, { error: () => 'said by this call' }).error.issues[0].message;
console.log(JSON.stringify(seen, null, 2));
const [english, german] = ['Invalid input: expected string, received number', 'Ungültige Eingabe: erwartet string, erhalten Zahl'];
const expected = {
  before: [english, english],
  afterLocaleOfLibrary: [german, english],
  afterErrorsOfLibrary: ['said by the library', english],
  givenWithOneCall: 'said by this call',
};
if (JSON.stringify(seen) !== JSON.stringify(expected)) {
  console.log('it has changed');
  process.exit(1);
}
PROGRAM
node program.js
