// Package client is the engine of `tailfin get` and `tailfin put`: transfers that
// can be cut and go on where they were, over tailfin.Transport.
//
// A download is resumed by Range and If-Range (RFC 9110 §13.1.5, §14), and only
// under a strong validator, so that bytes of two versions never meet in one file.
// What has come is kept in FILE.part, with a note of what it is part of in
// FILE.part.json; FILE appears whole, by a rename.
//
// An upload is resumed by the IETF draft "Resumable Uploads for HTTP"
// (draft-ietf-httpbis-resumable-upload, interop version 8): the first request
// carries Upload-Complete: ?1, and a server that can resume answers 104 with the
// Location of an upload resource. After a cut HEAD asks it for its Upload-Offset,
// and PATCH sends the rest. A server without it gets the file again from its start.
package client
