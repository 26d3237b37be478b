/** Reads the text format of Prometheus into `name{label="value",…}` and its number. */
export function samplesOf(body: string): Map<string, number> {
  const lines = body.split('\n').filter(line => line !== '' && !line.startsWith('#'));
  return new Map(lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]));
}
