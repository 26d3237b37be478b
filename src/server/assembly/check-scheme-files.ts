import { readFile } from 'node:fs/promises';
import { messageOf } from '../../base/message-of.ts';
import type { Config } from '../../config/config.ts';
import type { BrokenRule } from '../../config/fields.ts';
import { pinnedAlgorithms } from '../../http/token-algorithms.ts';
import { parseGroupFile } from '../../policy/auth/group-file.ts';
import { clientSecretIn } from '../../policy/auth/introspection.ts';
import { checkedStyle } from '../../policy/auth/page-frame.ts';

/**
 * What makes a start fail because of the files that schemes name: keys, secrets, group files and styles that cannot be
 * used. Password files are in `check-password-files.ts`. That a file cannot be read is for others to say, and no issuer
 * is asked.
 */
export async function checkSchemeFiles({ auth = {} }: Pick<Config, 'auth'>): Promise<BrokenRule[]> {
  const faults: BrokenRule[] = [];
  const judge = async (path: readonly PropertyKey[], file: string, parse: (text: string) => unknown) => {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text === undefined) return;
    try {
      parse(text);
    } catch (error) {
      faults.push({ path, message: `${file} cannot be used: ${messageOf(error)}` });
    }
  };
  for (const [name, scheme] of Object.entries(auth)) {
    const at = ['auth', name];
    if (scheme.groups !== undefined) await judge([...at, 'groups'], scheme.groups, parseGroupFile);
    if (scheme.type === 'form' && scheme.page?.style !== undefined)
      await judge([...at, 'page', 'style'], scheme.page.style, checkedStyle);
    if (scheme.type === 'introspection')
      await judge([...at, 'clientSecretFile'], scheme.clientSecretFile, clientSecretIn);
    if (scheme.type === 'oidc' && scheme.clientSecretFile !== undefined)
      await judge([...at, 'clientSecretFile'], scheme.clientSecretFile, clientSecretIn);
    if (scheme.type !== 'jwt') continue;
    const { KEY_FILES } = await import('../../policy/auth/tokens/key-set.ts');
    const algorithms = pinnedAlgorithms(scheme.algorithms, scheme.secretFile === undefined ? 'public' : 'secret');
    for (const [option, parse] of Object.entries(KEY_FILES)) {
      const file = scheme[option as keyof typeof KEY_FILES];
      if (file !== undefined) await judge([...at, option], file, text => parse(text, algorithms));
    }
  }
  return faults;
}
