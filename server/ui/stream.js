// Calls of the server: whole answers, and streams of server-sent events.

import { withKey } from "./key.js";

// What a server says is wrong, in either of its shapes.
async function reason(response) {
  try {
    const body = await response.json();
    return body.error?.message ?? body.message ?? body.detail;
  } catch {
    return `HTTP ${response.status}`;
  }
}

export async function post(path, body, signal) {
  const response = await fetch(path, {
    method: "POST",
    headers: withKey({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

// The chunks of a stream. Aborting the signal closes the connection, at which the server frees the request.
export async function* chunks(path, body, signal) {
  const response = await post(path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the stream was cut off");
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const data = frame.slice("data: ".length);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      yield chunk;
    }
  }
}

// Text and tokens of a chunk, whichever endpoint it is from: {text, tokens: [{token, logprob, top}], finish}.
export function piece(chunk) {
  const choice = chunk.choices[0];
  if (!choice) return { text: "", tokens: [], finish: null };
  const logprobs = choice.logprobs;
  let tokens = [];
  if (logprobs?.content) {
    tokens = logprobs.content.map(({ token, logprob, top_logprobs }) => ({
      token, logprob, top: top_logprobs.map((other) => [other.token, other.logprob]),
    }));
  } else if (logprobs?.tokens) {
    tokens = logprobs.tokens.map((token, i) => ({
      token, logprob: logprobs.token_logprobs[i], top: Object.entries(logprobs.top_logprobs?.[i] ?? {}),
    }));
  }
  return { text: choice.text ?? choice.delta?.content ?? "", tokens, finish: choice.finish_reason };
}
