//! Calls that nobody has written down here: found by reflection, made of descriptors.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut};
use futures::stream;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    Value,
};
use tonic::{
    Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// All services that a server reflects, with their messages.
pub async fn reflect(channel: &Channel) -> DescriptorPool {
    let mut files = BTreeMap::new();
    let mut wanted = Vec::new();
    let listed = ask(channel, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(services) = listed else { panic!("{listed:?}") };
    for service in services.service {
        wanted.push(MessageRequest::FileContainingSymbol(service.name));
    }
    while let Some(request) = wanted.pop() {
        let answer = ask(channel, request).await;
        let MessageResponse::FileDescriptorResponse(found) = answer else { panic!("{answer:?}") };
        for bytes in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(bytes.as_slice()).unwrap();
            if files.contains_key(file.name()) {
                continue;
            }
            for name in &file.dependency {
                wanted.push(MessageRequest::FileByFilename(name.clone()));
            }
            files.insert(file.name().to_owned(), file);
        }
    }
    let set = prost_types::FileDescriptorSet { file: files.into_values().collect() };
    DescriptorPool::decode(set.encode_to_vec().as_slice()).unwrap()
}

async fn ask(channel: &Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(stream::iter([request])).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

/// Requests that name `tenant` in every place where they can name one: one request for each choice
/// that the message offers.
pub fn requests(message: &MessageDescriptor, tenant: &str) -> Vec<DynamicMessage> {
    let mut requests = vec![DynamicMessage::new(message.clone())];
    let mut choices: BTreeMap<String, Vec<(FieldDescriptor, DynamicMessage)>> = BTreeMap::new();
    for field in message.fields() {
        match field.kind() {
            Kind::String if field.name() == "tenant" => {
                for request in &mut requests {
                    request.set_field(&field, Value::String(tenant.to_owned()));
                }
            }
            Kind::Message(inner) if !field.is_map() && names_tenants(&inner) => {
                let inner = self::requests(&inner, tenant);
                match field.containing_oneof() {
                    Some(oneof) => choices
                        .entry(oneof.name().to_owned())
                        .or_default()
                        .extend(inner.into_iter().map(|inner| (field.clone(), inner))),
                    None => requests = each_with(&requests, &field, &inner),
                }
            }
            _ => {}
        }
    }
    for choices in choices.into_values() {
        let with = |(field, inner): &(FieldDescriptor, DynamicMessage)| {
            each_with(&requests, field, std::slice::from_ref(inner))
        };
        requests = choices.iter().flat_map(with).collect();
    }
    requests
}

/// Whether a message names a tenant somewhere.
pub fn names_tenants(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| match field.kind() {
        Kind::String => field.name() == "tenant",
        Kind::Message(inner) => !field.is_map() && names_tenants(&inner),
        _ => false,
    })
}

fn each_with(
    requests: &[DynamicMessage],
    field: &FieldDescriptor,
    inner: &[DynamicMessage],
) -> Vec<DynamicMessage> {
    let mut all = Vec::new();
    for request in requests {
        for part in inner {
            let part = Value::Message(part.clone());
            let value = if field.is_list() { Value::List(vec![part]) } else { part };
            let mut request = request.clone();
            request.set_field(field, value);
            all.push(request);
        }
    }
    all
}

/// Makes a call of any kind with one message: its first answer, or why there is none.
pub async fn call(
    channel: &Channel,
    method: &MethodDescriptor,
    message: &DynamicMessage,
    token: Option<&str>,
) -> Result<Vec<u8>, Status> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut request = Request::new(stream::iter([message.encode_to_vec()]));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    // On the wire every call is a stream.
    let answers = client.streaming(request, path.parse().unwrap(), Bytes).await?;
    Ok(answers.into_inner().message().await?.unwrap_or_default())
}

/// Messages as they are on the wire.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
