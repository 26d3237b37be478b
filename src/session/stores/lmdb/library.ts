import { createRequire } from 'node:module';

/**
 * `lmdb`, as the one file that it has for `require`: an `import` loads some twenty, and takes twice as long.
 */
export const { getLastVersion, open }: typeof import('lmdb') = createRequire(import.meta.url)('lmdb');
