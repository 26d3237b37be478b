export function onMessage(): void {}
throw new Error('there is no table of prices');
