import { readFile } from 'node:fs/promises';
import { messageOf } from '../../base/message-of.ts';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { pinnedAlgorithms } from '../../http/token-algorithms.ts';
import { clientSecretIn } from '../../policy/auth/introspection.ts';
import { KEY_FILES } from '../../policy/auth/tokens/key-set.ts';

/**
 * What makes a start fail because of the files that schemes of tokens name: keys and secrets that cannot be used. That a
 * file cannot be read is for others to say, and no issuer is asked.
 */
export async function checkTokenFiles({ auth = {} }: Pick<Config, 'auth'>): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  const judge = async (name: string, option: string, file: string, parse: (text: string) => unknown) => {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text === undefined) return;
    try {
      parse(text);
    } catch (error) {
      faults.push({ path: ['auth', name, option], message: `${file} cannot be used: ${messageOf(error)}` });
    }
  };
  for (const [name, scheme] of Object.entries(auth)) {
    if (scheme.type === 'introspection') await judge(name, 'clientSecretFile', scheme.clientSecretFile, clientSecretIn);
    if (scheme.type === 'oidc' && scheme.clientSecretFile !== undefined)
      await judge(name, 'clientSecretFile', scheme.clientSecretFile, clientSecretIn);
    if (scheme.type !== 'jwt') continue;
    const algorithms = pinnedAlgorithms(scheme.algorithms, scheme.secretFile === undefined ? 'public' : 'secret');
    for (const [option, parse] of Object.entries(KEY_FILES)) {
      const file = scheme[option as keyof typeof KEY_FILES];
      if (file !== undefined) await judge(name, option, file, text => parse(text, algorithms));
    }
  }
  return faults;
}
