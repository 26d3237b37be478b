// Writes down which modules a program has loaded when it ends: files by their URLs, and Node's own by their names.
import { writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

const urls = new Set();
registerHooks({
  load(url, context, next) {
    urls.add(url);
    return next(url, context);
  },
});
process.on('exit', () => {
  writeFileSync(process.env.HOLDFAST_MODULES, JSON.stringify({ urls: [...urls], builtins: process.moduleLoadList }));
});
