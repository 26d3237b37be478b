// Ends with one clear sentence on a Node that cannot run TypeScript sources. Shared by the program and the npm scripts.
const [major, minor] = process.versions.node.split('.').map(Number);

if (major < 24 || (major === 24 && minor < 12)) {
  console.error(
    `holdfast needs Node 24.12 or newer, and this is Node ${process.versions.node}: install a newer Node, or run it through npm in a clone (npm start), which brings its own.`,
  );
  process.exit(1);
}
