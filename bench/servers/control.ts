/**
 * Tells the benchmark that this server is ready, and does what it asks: `collect` collects garbage and answers with a
 * line. Ends the process when standard input ends, so that no server outlives its benchmark.
 */
export function ready(port: number, collectGarbage: () => void): void {
  process.stdin.on('data', () => {
    // Twice and a moment apart: what a finalizer frees in the first pass goes in the second.
    collectGarbage();
    setTimeout(() => {
      collectGarbage();
      console.log('{}');
    }, 200);
  });
  process.stdin.on('end', () => process.exit());
  console.log(JSON.stringify({ port }));
}
