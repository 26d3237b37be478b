/**
 * Is text for people coloured? On a terminal, unless `NO_COLOR` is set or it knows no colours; `FORCE_COLOR` decides before
 * all of these, also where there is no terminal: 0 or `false` for none.
 */
export function hasColours(isTerminal: boolean, environment: NodeJS.ProcessEnv = process.env): boolean {
  const { FORCE_COLOR: forced, NO_COLOR: none, TERM: terminal } = environment;
  if (forced !== undefined) return forced !== '0' && forced !== 'false';
  return isTerminal && !none && terminal !== 'dumb';
}
