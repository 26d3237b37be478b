import { isFieldValue } from '../../http/token.ts';

const TARGET = /^[\x21-\x7e\x80-\xff]+$/;

/**
 * The request line and headers for a backend as they go over the wire, without the empty line.
 *
 * @param headers Name, value, name, value ... The names come from Node's parser, or are ours.
 * @returns undefined when it has a character that cannot be written: Node's parser lets more through than HTTP has.
 */
export function requestHeadText(method: string, target: string, headers: readonly string[]): string | undefined {
  if (!TARGET.test(target)) return undefined;
  let text = `${method} ${target} HTTP/1.1\r\n`;
  for (let i = 0; i < headers.length; i += 2) {
    const value = headers[i + 1]!;
    if (!isFieldValue(value)) return undefined;
    text += `${headers[i]}: ${value}\r\n`;
  }
  return text;
}
