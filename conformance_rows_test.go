package tailfin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"strings"
	"time"
)

func conformanceRows() []conformanceRow {
	rows := append(statusRows(), headerRows()...)
	rows = append(rows, bodyRows()...)
	rows = append(rows, requestRows()...)
	return append(rows, helperRows()...)
}

// write is a handler that writes pieces.
func write(pieces ...string) func(*exchange, http.ResponseWriter, *http.Request) {
	return func(_ *exchange, w http.ResponseWriter, _ *http.Request) {
		for _, p := range pieces {
			_, _ = io.WriteString(w, p)
		}
	}
}

func plainHandler(h http.HandlerFunc) func(*exchange, http.ResponseWriter, *http.Request) {
	return func(_ *exchange, w http.ResponseWriter, r *http.Request) { h(w, r) }
}

// statusRows are about WriteHeader.
func statusRows() []conformanceRow {
	links := func(x *exchange) string { return strings.Join(x.interim, ", ") + ", " + x.answer() }
	return []conformanceRow{
		{name: "nothing written is 200 without a body", handler: write(), see: (*exchange).answer, want: `200 0 ""`},
		{name: "an empty Write is 200", handler: write(""), see: (*exchange).answer, want: `200 0 ""`},
		{name: "status without a body", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
			see: (*exchange).answer, want: `404 0 ""`},
		{name: "the second WriteHeader does nothing", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}), see: (*exchange).answer, want: `418 0 ""`},
		{name: "WriteHeader after Write does nothing", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.WriteHeader(http.StatusInternalServerError)
		}), see: (*exchange).answer, want: `200 1 "x"`},
		{name: "a status that is no standard one", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) }),
			see: (*exchange).answer, want: `799 0 ""`},
		{name: "204 has no body", handler: func(x *exchange, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			_, err := io.WriteString(w, "x")
			x.note("%v", errors.Is(err, http.ErrBodyNotAllowed))
		}, see: func(x *exchange) string { return fmt.Sprintf("%d %q %s", x.resp.StatusCode, x.body, x.noted()) }, want: `204 "" true`},
		{name: "204 has no Content-Length", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusNoContent)
		}), see: header("Content-Length"), want: "-", peer: "5", why: "RFC 9110 §8.6 forbids it"},
		{name: "304 has no body, and keeps its ETag", handler: func(x *exchange, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			w.WriteHeader(http.StatusNotModified)
			_, err := io.WriteString(w, "x")
			x.note("%v", errors.Is(err, http.ErrBodyNotAllowed))
		}, see: func(x *exchange) string { return header("Etag")(x) + " " + x.noted() }, want: `"v1" true`},
		{name: "103 with its header, then the answer", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Link", "</b.css>")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "page")
		}), see: links, want: `103 </a.css>, 103 </b.css>, 200 4 "page"`},
		{name: "102, then an error", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusProcessing)
			w.WriteHeader(http.StatusServiceUnavailable)
		}), see: links, want: `102 , 503 0 ""`},
		{name: "101 aborts the answer", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusSwitchingProtocols)
			_, _ = io.WriteString(w, "switched")
		}), see: (*exchange).failed, want: "failed"},
		{name: "a status of two digits aborts the answer", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(99) }),
			see: (*exchange).failed, want: "failed"},
		{name: "HEAD has a length and no body", method: "HEAD", handler: write("hello"),
			see: func(x *exchange) string {
				return header("Content-Length", "Content-Type")(x) + fmt.Sprintf(" %q", x.body)
			},
			want: `5; text/plain; charset=utf-8 ""`},
		{name: "HEAD with a declared length", method: "HEAD", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
		}), see: header("Content-Length"), want: "1000"},
	}
}

// headerRows are about the header and trailers of the answer.
func headerRows() []conformanceRow {
	set := func(kv ...string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			for i := 0; i < len(kv); i += 2 {
				w.Header().Add(kv[i], kv[i+1])
			}
		}
	}
	with := func(f func(http.ResponseWriter), body string) func(*exchange, http.ResponseWriter, *http.Request) {
		return func(_ *exchange, w http.ResponseWriter, _ *http.Request) {
			f(w)
			_, _ = io.WriteString(w, body)
		}
	}
	trailers := func(x *exchange) string {
		return fmt.Sprintf("%q %v", x.body, x.resp.Trailer)
	}
	return []conformanceRow{
		{name: "Content-Type of HTML is found out", handler: write("<html></html>"), see: header("Content-Type"), want: "text/html; charset=utf-8"},
		{name: "Content-Type of text is found out", handler: write("hello"), see: header("Content-Type"), want: "text/plain; charset=utf-8"},
		{name: "Content-Type of bytes is found out", handler: write("\x00\x01\x02"), see: header("Content-Type"), want: "application/octet-stream"},
		{name: "Content-Type is found out over several Writes", handler: write("<ht", "ml></html>"), see: header("Content-Type"),
			want: "text/html; charset=utf-8", peer: "text/plain; charset=utf-8", why: "net/http looks at what it has gathered"},
		{name: "a Content-Type that is set stays", handler: with(set("Content-Type", "a/b"), "<html>"), see: header("Content-Type"), want: "a/b"},
		{name: "a Content-Type of nil is none", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, "<html>")
		}), see: header("Content-Type"), want: "-"},
		{name: "nothing is found out about an encoded body", handler: with(set("Content-Encoding", "br"), "<html>"), see: header("Content-Type"), want: "-"},
		{name: "no Content-Type without a body", handler: write(), see: header("Content-Type"), want: "-"},
		{name: "Date is set", handler: write("x"), see: func(x *exchange) string {
			_, err := http.ParseTime(x.resp.Header.Get("Date"))
			return fmt.Sprint(err)
		}, want: "<nil>"},
		{name: "a Date of nil is none", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }),
			see: header("Date"), want: "-"},
		{name: "fields with several values keep them apart", handler: with(set("Set-Cookie", "a=1", "Set-Cookie", "b=2"), ""),
			see: header("Set-Cookie"), want: "a=1 | b=2"},
		{name: "fields of an HTTP/1 connection are left out", handler: with(set("Connection", "close", "X-Kept", "1"), "x"),
			see: header("Connection", "X-Kept"), want: "-; 1",
			peer: "error: http3: invalid response: invalid header field name: \"connection\"", why: "RFC 9114 §4.2 forbids them"},
		{name: "a header change after WriteHeader does nothing", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Early", "1")
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-Late", "1")
		}), see: header("X-Early", "X-Late"), want: "1; -", peer: "1; 1", why: "http.ResponseWriter says it has no effect"},
		{name: "a header change after Write does nothing", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-Late", "1")
		}), see: header("X-Late"), want: "-", peer: "1", why: "http.ResponseWriter says it has no effect"},
		{name: "announced trailers", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-One, x-two")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-One", "1")
			w.Header().Set("X-Two", "2")
		}), see: trailers, want: `"body" map[X-One:[1] X-Two:[2]]`},
		{name: "trailers by http.TrailerPrefix", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"X-After", "late")
		}), see: trailers, want: `"body" map[X-After:[late]]`},
		{name: "trailers without a body", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-One")
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-One", "1")
		}), see: trailers, want: `"" map[X-One:[1]]`},
		{name: "an announced trailer that is set early is no header", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-One")
			w.Header().Set("X-One", "1")
			_, _ = io.WriteString(w, "body")
		}), see: header("X-One"), want: "-"},
	}
}

// bodyRows are about the content of the answer.
func bodyRows() []conformanceRow {
	length := func(n string, pieces ...string) func(*exchange, http.ResponseWriter, *http.Request) {
		return func(x *exchange, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", n)
			for _, p := range pieces {
				_, err := io.WriteString(w, p)
				x.note("%v", err)
			}
		}
	}
	return []conformanceRow{
		{name: "a small body has a length", handler: write("he", "llo"), see: (*exchange).answer, want: `200 5 "hello"`},
		{name: "a large body has none", handler: write(strings.Repeat("x", 100_000)), see: func(x *exchange) string {
			return fmt.Sprint(x.resp.ContentLength, " ", len(x.body))
		}, want: "-1 100000"},
		{name: "a flushed body has none", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "b")
		}), see: (*exchange).answer, want: `200 -1 "ab"`},
		{name: "a declared length is kept", handler: length("5", "hello"), see: (*exchange).answer, want: `200 5 "hello"`},
		{name: "a declared length that is no number is dropped", handler: length("many", "hello"), see: (*exchange).answer, want: `200 5 "hello"`},
		{name: "more than declared is http.ErrContentLength", handler: length("3", "hello", "hel"),
			see:  func(x *exchange) string { return x.answer() + " " + x.noted() },
			want: `200 3 "hel" http: wrote more than the declared Content-Length, <nil>`},
		{name: "less than declared is no whole answer", handler: length("9", "hello"), see: (*exchange).failed, want: "failed"},
		{name: "http.ErrAbortHandler aborts", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}), see: (*exchange).failed, want: "failed"},
		{name: "a panic aborts", handler: plainHandler(func(http.ResponseWriter, *http.Request) { panic("at the disco") }), see: (*exchange).failed, want: "failed"},
		{name: "Hijack is not supported", handler: func(x *exchange, w http.ResponseWriter, _ *http.Request) {
			_, hijacker := w.(http.Hijacker)
			_, _, err := http.NewResponseController(w).Hijack()
			x.note("%v %v", hijacker, errors.Is(err, http.ErrNotSupported))
		}, see: (*exchange).noted, want: "false true"},
		{name: "io.Copy to the ResponseWriter", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, strings.NewReader(strings.Repeat("y", 70_000)))
		}), see: func(x *exchange) string { return fmt.Sprint(len(x.body)) }, want: "70000"},
		{name: "full duplex is there without being asked for", handler: func(x *exchange, w http.ResponseWriter, _ *http.Request) {
			x.note("%v", http.NewResponseController(w).EnableFullDuplex())
		}, see: (*exchange).noted, want: "<nil>", peer: "feature not supported", why: "it is no feature that could be missing in HTTP/3"},
	}
}

// requestRows are about the fields of http.Request.
func requestRows() []conformanceRow {
	noting := func(f func(r *http.Request) string) func(*exchange, http.ResponseWriter, *http.Request) {
		return func(x *exchange, _ http.ResponseWriter, r *http.Request) { x.note("%s", f(r)) }
	}
	return []conformanceRow{
		{name: "Proto", handler: noting(func(r *http.Request) string { return fmt.Sprint(r.Proto, " ", r.ProtoMajor, r.ProtoMinor) }),
			see: (*exchange).noted, want: "HTTP/3.0 3 0"},
		{name: "Host", handler: noting(func(r *http.Request) string { return fmt.Sprintf("%s %q", r.Host, r.Header["Host"]) }), see: (*exchange).noted, want: "ADDR []"},
		{name: "Host that the client sets", request: func(r *http.Request) { r.Host = "example.com" },
			handler: noting(func(r *http.Request) string { return r.Host }), see: (*exchange).noted, want: "example.com"},
		{name: "URL and RequestURI", target: "/a/b?c=d&e", handler: noting(func(r *http.Request) string {
			return fmt.Sprintf("%s %s %q %s", r.URL.Path, r.URL.RawQuery, r.URL.Host, r.RequestURI)
		}), see: (*exchange).noted, want: `/a/b c=d&e "" /a/b?c=d&e`},
		{name: "an escaped path", target: "/a%2Fb", handler: noting(func(r *http.Request) string { return r.URL.Path + " " + r.URL.RawPath }),
			see: (*exchange).noted, want: "/a/b /a%2Fb"},
		{name: "TLS", handler: noting(func(r *http.Request) string {
			return fmt.Sprint(r.TLS.HandshakeComplete, " ", r.TLS.NegotiatedProtocol)
		}),
			see: (*exchange).noted, want: "true h3"},
		{name: "RemoteAddr", handler: noting(func(r *http.Request) string {
			host, port, err := net.SplitHostPort(r.RemoteAddr)
			return fmt.Sprint(host, " ", port != "", " ", err)
		}), see: (*exchange).noted, want: "127.0.0.1 true <nil>"},
		{name: "the server's address is in the context", handler: noting(func(r *http.Request) string {
			return fmt.Sprint(r.Context().Value(http.LocalAddrContextKey))
		}), see: (*exchange).noted, want: "ADDR"},
		{name: "ContentLength of a body", method: "POST", body: strings.NewReader("hello"), handler: noting(func(r *http.Request) string {
			b, err := io.ReadAll(r.Body)
			return fmt.Sprint(r.ContentLength, " ", string(b), " ", err)
		}), see: (*exchange).noted, want: "5 hello <nil>"},
		{name: "ContentLength of a body that does not tell", method: "POST", body: strings.NewReader("hello"),
			request: func(r *http.Request) { r.ContentLength = -1 }, handler: noting(func(r *http.Request) string {
				b, _ := io.ReadAll(r.Body)
				return fmt.Sprint(r.ContentLength, " ", string(b), " ", r.Header.Get("Content-Length"))
			}), see: (*exchange).noted, want: "-1 hello "},
		{name: "a request without a body", handler: noting(func(r *http.Request) string {
			b, err := io.ReadAll(r.Body)
			// 0 if the FIN came along, -1 if it is not known yet.
			return fmt.Sprint(r.ContentLength <= 0, " ", len(b), " ", err)
		}), see: (*exchange).noted, want: "true 0 <nil>"},
		{name: "Trailer is announced, and filled when the body has ended", method: "POST", body: strings.NewReader("hello"),
			request: func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"42"}} },
			handler: noting(func(r *http.Request) string {
				_, announced := r.Trailer["X-Sum"]
				before := r.Trailer.Get("X-Sum")
				_, _ = io.Copy(io.Discard, r.Body)
				return fmt.Sprintf("%v %q %q", announced, before, r.Trailer.Get("X-Sum"))
			}), see: (*exchange).noted, want: `true "" "42"`},
		{name: "cookies are one field", request: func(r *http.Request) {
			r.AddCookie(&http.Cookie{Name: "a", Value: "1"})
			r.AddCookie(&http.Cookie{Name: "b", Value: "2"})
		}, handler: noting(func(r *http.Request) string { return fmt.Sprintf("%q", r.Header["Cookie"]) }), see: (*exchange).noted, want: `["a=1; b=2"]`},
		{name: "fields that come twice keep their order", request: func(r *http.Request) { r.Header["X-Many"] = []string{"b", "a"} },
			handler: noting(func(r *http.Request) string { return fmt.Sprintf("%q", r.Header["X-Many"]) }), see: (*exchange).noted, want: `["b" "a"]`},
		{name: "the body after the handler has returned", method: "POST", body: strings.NewReader("hello"),
			handler: func(x *exchange, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Done", "1")
				go func() {
					<-r.Context().Done()
					_, err := r.Body.Read(make([]byte, 1))
					x.mu.Lock()
					defer x.mu.Unlock()
					x.notes = append(x.notes, fmt.Sprint(err != nil))
				}()
			}, see: func(x *exchange) string {
				for x.noted() == "" {
					time.Sleep(time.Millisecond) // the read is behind the handler, and tells nobody
				}
				return x.noted()
			}, want: "true"},
		{name: "the context of a request ends with it", handler: func(x *exchange, _ http.ResponseWriter, r *http.Request) {
			x.note("%v", r.Context().Err())
		}, see: (*exchange).noted, want: "<nil>"},
		{name: "Write after the handler has returned", handler: func(x *exchange, w http.ResponseWriter, r *http.Request) {
			go func() {
				<-r.Context().Done()
				_, err := w.Write(make([]byte, 100_000))
				x.note("%v", err != nil)
			}()
		}, see: func(x *exchange) string {
			for x.noted() == "" {
				time.Sleep(time.Millisecond) // as above
			}
			return x.noted()
		}, want: "true"},
	}
}

// helperRows run the handlers and helpers of net/http on top.
func helperRows() []conformanceRow {
	modified := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	content := plainHandler(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "file.txt", modified, strings.NewReader("0123456789"))
	})
	field := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.PathValue("id")+" by "+r.Pattern)
	})
	routed := plainHandler(mux.ServeHTTP)
	form := "multipart/form-data; boundary=xyz"
	var parts bytes.Buffer
	m := multipart.NewWriter(&parts)
	_ = m.SetBoundary("xyz")
	_ = m.WriteField("name", "value")
	_ = m.Close()
	return []conformanceRow{
		{name: "ServeContent: all", handler: content, see: func(x *exchange) string { return x.answer() + " " + header("Accept-Ranges", "Content-Type")(x) },
			want: `200 10 "0123456789" bytes; text/plain; charset=utf-8`},
		{name: "ServeContent: a range", request: field("Range", "bytes=2-4"), handler: content,
			see: func(x *exchange) string { return x.answer() + " " + header("Content-Range")(x) }, want: `206 3 "234" bytes 2-4/10`},
		{name: "ServeContent: two ranges", request: field("Range", "bytes=0-1,8-9"), handler: content, see: func(x *exchange) string {
			return fmt.Sprint(x.resp.StatusCode, strings.HasPrefix(x.resp.Header.Get("Content-Type"), "multipart/byteranges"), int(x.resp.ContentLength) == len(x.body))
		}, want: "206 true true"},
		{name: "ServeContent: a range beyond the end", request: field("Range", "bytes=20-"), handler: content,
			see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode, " ", header("Content-Range")(x)) }, want: "416 bytes */10"},
		{name: "ServeContent: If-None-Match", request: field("If-None-Match", `"v1"`), handler: content, see: func(x *exchange) string {
			return fmt.Sprint(x.resp.StatusCode, " ", x.body, header("Etag")(x))
		}, want: `304 "v1"`},
		{name: "ServeContent: If-Modified-Since", request: field("If-Modified-Since", modified.Format(http.TimeFormat)),
			handler: plainHandler(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "file.txt", modified, strings.NewReader("x"))
			}), see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode) }, want: "304"},
		{name: "ServeContent: HEAD", method: "HEAD", handler: content, see: header("Content-Length"), want: "10"},
		{name: "http.MaxBytesReader", method: "POST", body: strings.NewReader(strings.Repeat("x", 1000)), handler: plainHandler(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100))
			var tooLarge *http.MaxBytesError
			if errors.As(err, &tooLarge) {
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			}
		}), see: (*exchange).answer, want: `413 10 "too large\n"`},
		{name: "http.TimeoutHandler", handler: plainHandler(http.TimeoutHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		}), 20*time.Millisecond, "too slow").ServeHTTP), see: (*exchange).answer, want: `503 8 "too slow"`},
		{name: "http.Error", handler: plainHandler(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusBadRequest) }),
			see: func(x *exchange) string {
				return x.answer() + " " + header("Content-Type", "X-Content-Type-Options")(x)
			},
			want: `400 3 "no\n" text/plain; charset=utf-8; nosniff`},
		{name: "http.Redirect", target: "/a/b", handler: plainHandler(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "../c", http.StatusFound) }),
			see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode, " ", x.resp.Header.Get("Location")) }, want: "302 /c"},
		{name: "ServeMux: pattern with a value", target: "/items/7", handler: routed, see: (*exchange).answer, want: `200 20 "7 by GET /items/{id}"`},
		{name: "ServeMux: method that is not there", method: "DELETE", target: "/items/7", handler: routed,
			see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode, " ", x.resp.Header.Get("Allow")) }, want: "405 GET, HEAD"},
		{name: "ServeMux: path that is not clean", target: "/items//7", handler: routed,
			see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode, " ", x.resp.Header.Get("Location")) }, want: "307 /items/7"},
		{name: "StripPrefix", target: "/api/x", handler: plainHandler(http.StripPrefix("/api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, r.URL.Path)
		})).ServeHTTP), see: (*exchange).answer, want: `200 2 "/x"`},
		{name: "a form", method: "POST", body: strings.NewReader("a=1&b=2"), request: field("Content-Type", "application/x-www-form-urlencoded"),
			handler: plainHandler(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.FormValue("b")) }),
			see:     (*exchange).answer, want: `200 1 "2"`},
		{name: "a multipart form", method: "POST", body: bytes.NewReader(parts.Bytes()), request: field("Content-Type", form),
			handler: plainHandler(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.FormValue("name")) }),
			see:     (*exchange).answer, want: `200 5 "value"`},
		{name: "a header section too large", request: field("X-Long", strings.Repeat("z", 8000)), handler: write("never"),
			see: func(x *exchange) string { return fmt.Sprint(x.resp.StatusCode) }, want: "431"},
	}
}
