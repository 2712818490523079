// The API key, where the server wants one: in this page's memory and nowhere else.

let key = "";
let wake = () => {};

export function setKey(text) {
  key = text.trim();
  wake();
}

export const hasKey = () => key !== "";
export const withKey = (headers = {}) => (key ? { ...headers, Authorization: `Bearer ${key}` } : headers);

// Comes true with the next key.
export const nextKey = () => new Promise((resolve) => { wake = resolve; });
