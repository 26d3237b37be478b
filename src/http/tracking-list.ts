/**
 * What is wrong with the order in which a server looks for its sessions; undefined when nothing is.
 *
 * A link may have been sent by somebody else. So what a client keeps itself has to win over it, and `url` is the last.
 */
export function trackingProblem(kinds: readonly string[]): string | undefined {
  if (kinds.length === 0) return 'is empty; it needs at least one of cookie, header, url';
  const twice = kinds.find((kind, index) => kinds.indexOf(kind) !== index);
  if (twice !== undefined) return `names ${JSON.stringify(twice)} twice`;
  const at = kinds.indexOf('url');
  if (at === -1 || at === kinds.length - 1) return undefined;
  return 'names "url" before another: a link that somebody has sent would win over what the client keeps; "url" stands last';
}
