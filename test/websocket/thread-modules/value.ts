export const onMessage = 'echo';
