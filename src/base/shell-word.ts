/** As it has to be written on a command line. */
export function shellWord(text: string): string {
  return /^[\w.@%+/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
