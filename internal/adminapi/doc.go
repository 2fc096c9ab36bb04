// Package adminapi owns the conversation between the command line and the agent of the same host: its types, the
// handler, and the client. It is HTTP with JSON over a unix socket that only root may use.
//
//	GET /v1/info    200 Info
//	GET /healthz    200 {"status":"ok"}, or 503 with the reason
//
// Every answer other than 200 is {"error": "…"}. Fields are added, never renamed, within one Schema: a client ignores
// fields that it does not know, and an older agent leaves out those that it does not know.
//
// It imports the standard library only. What it needs of an agent it declares ([Agent]); it must not know any
// implementation.
package adminapi
