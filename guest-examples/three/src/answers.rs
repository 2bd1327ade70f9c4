//! Answers HTTP requests by their path, for `stratafs serve`: the world `wasi:http/service` of
//! 0.3. The guest of `guest-examples/http` does more, in 0.2.
//!
//! | path | answer |
//! |---|---|
//! | `/hello` | a greeting |
//! | `/count` | how many times it was asked, which it keeps in `/count` |
//! | `/echo` | the body of the request |
//! | `/big` | 8 MiB |
//! | `/trap`, `/loop`, `/error` | no answer, each in its own way |

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

wasip3::http::service::export!(Answers);

struct Answers;

impl wasip3::exports::http::handler::Guest for Answers {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/hello" => Ok(answer(b"hello\n".to_vec())),
            "/count" => Ok(answer(format!("{}\n", count()).into_bytes())),
            "/echo" => {
                let (_, done) = wit_future::new(|| Ok(()));
                let (body, _trailers) = Request::consume_body(request, done);
                Ok(answer(body.collect().await))
            }
            "/big" => Ok(answer(vec![b'y'; 8 << 20])),
            "/trap" => core::arch::wasm32::unreachable(),
            "/loop" => loop {
                std::hint::black_box(&path);
            },
            "/error" => Err(ErrorCode::InternalError(None)),
            _ => Ok(answer(b"no such path\n".to_vec())),
        }
    }
}

fn count() -> u64 {
    let seen = std::fs::read_to_string("/count").unwrap_or_default();
    let count = seen.trim().parse::<u64>().unwrap_or(0) + 1;
    std::fs::write("/count", count.to_string()).expect("the count is written");
    count
}

/// Gives the head at once, and the body as it is taken.
fn answer(bytes: Vec<u8>) -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers, after) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(Fields::new(), Some(body), after);
    drop(trailers);
    wit_bindgen::spawn_local(async move {
        // A client may go away: the rest comes back then.
        drop(writer.write_all(bytes).await);
    });
    response
}
