// Passkeys: asks the browser for one (or for a new one) and posts what it says.

const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer, padded) => {
  const base64 = btoa(String.fromCharCode(...new Uint8Array(buffer)));
  const safe = base64.replace(/\+/g, "-").replace(/\//g, "_");
  return padded ? safe : safe.replace(/=/g, "");
};
const withBytes = (list) => (list || []).map((item) => ({ ...item, id: bytes(item.id) }));

async function create(options) {
  const made = await navigator.credentials.create({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      user: { ...options.user, id: bytes(options.user.id) },
      excludeCredentials: withBytes(options.excludeCredentials),
    },
  });
  return {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    response: {
      attestationObject: text(made.response.attestationObject),
      clientDataJSON: text(made.response.clientDataJSON),
      transports: made.response.getTransports?.() ?? null,
    },
    extensions: JSON.stringify(made.getClientExtensionResults()),
  };
}

async function get(options) {
  const given = await navigator.credentials.get({
    publicKey: {
      ...options,
      challenge: bytes(options.challenge),
      allowCredentials: withBytes(options.allowCredentials),
    },
  });
  return {
    id: given.id,
    rawId: text(given.rawId),
    type: given.type,
    response: {
      authenticatorData: text(given.response.authenticatorData, true),
      clientDataJSON: text(given.response.clientDataJSON, true),
      signature: text(given.response.signature, true),
      userHandle: text(given.response.userHandle, true),
    },
    assertionClientExtensions: JSON.stringify(given.getClientExtensionResults()),
  };
}

async function answer(form) {
  try {
    const ask = form.dataset.passkey === "create" ? create : get;
    const credential = await ask(JSON.parse(form.dataset.options));
    form.elements.credential.value = JSON.stringify(credential);
    form.submit();
  } catch {
    form.querySelector("[data-passkey-says]").hidden = true;
    form.querySelector("[data-passkey-failed]").hidden = false;
  }
}

if (window.PublicKeyCredential) {
  for (const part of document.querySelectorAll("[data-needs-passkeys]")) part.hidden = false;
}
document.querySelectorAll("form[data-passkey]").forEach(answer);
