// Installs the dependencies when they are missing or older than the lock file, so that `npm start` and `npm test`
// work on a fresh clone. Plain JavaScript that also runs on an old Node: it runs before the pinned Node exists.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';

const root = new URL('..', import.meta.url);
const installed = new URL('node_modules/.package-lock.json', root); // written by npm at the end of an install
const lock = new URL('package-lock.json', root);

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  const [, npmVersion] = /^npm\/(\S+)/.exec(process.env.npm_config_user_agent || '') || [];
  if (npmVersion && Number.parseInt(npmVersion, 10) < 10) {
    console.error(`npm 10 or newer is needed, and this is npm ${npmVersion}: npm install --global npm@10`);
    process.exit(1);
  }
  console.log('Installing dependencies (once) ...');
  const npm = process.env.npm_execpath;
  const [program, first] = npm ? [process.execPath, [npm]] : ['npm', []];
  const run = spawnSync(program, [...first, 'ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (run.status !== 0) {
    console.error('npm ci failed; run it by hand to see why.');
    process.exit(run.status ?? 1);
  }
}
