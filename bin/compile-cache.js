// Keeps what Node compiles of the program, so that the next start does without.
const { lstatSync, mkdirSync, realpathSync } = process.getBuiltinModule('node:fs');
const { enableCompileCache } = process.getBuiltinModule('node:module');
const { homedir } = process.getBuiltinModule('node:os');
const { dirname, join } = process.getBuiltinModule('node:path');

try {
  const { CACHE_DIRECTORY, XDG_CACHE_HOME } = process.env;
  const folder = join(CACHE_DIRECTORY || XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast-compiled');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (isOurs(realpathSync(folder))) enableCompileCache(folder);
} catch {
  // Without a place for it, each start compiles anew.
}

/**
 * Who can write into it makes this program run what they like; and who can write into a folder above it can put another
 * in its place.
 */
function isOurs(folder) {
  const user = process.getuid?.();
  if (user === undefined) return true;
  const { uid, mode } = lstatSync(folder);
  if ((uid !== user && uid !== 0) || (mode & 0o022 && !(mode & 0o1000))) return false;
  return folder === dirname(folder) || isOurs(dirname(folder));
}
