import { delimiter } from 'node:path';

/** What a newcomer's shell has: no variables of npm, and no pinned Node of this folder in PATH. */
export const newcomerEnvironment: NodeJS.ProcessEnv = Object.fromEntries(
  Object.entries(process.env)
    .filter(([name]) => !name.startsWith('npm_') && !name.startsWith('VITEST') && name !== 'NODE_OPTIONS')
    .map(([name, value]) => [
      name,
      name === 'PATH'
        ? value!
            .split(delimiter)
            .filter(entry => !entry.includes('node_modules'))
            .join(delimiter)
        : value,
    ]),
);
