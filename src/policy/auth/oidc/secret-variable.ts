/** The secret that a variable of the environment holds, or why there is none. */
export function secretIn(variable: string): { secret: string; fault?: never } | { secret?: never; fault: string } {
  const secret = (process.env[variable] ?? '').trim();
  if (secret !== '') return { secret };
  return { fault: `the environment variable ${variable} is not set; put the secret of the client into it` };
}
