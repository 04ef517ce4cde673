//! All services of the gRPC port: the product's, health, and reflection.

use tonic::service::Routes;
use tonic_health::pb::{FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTORS, health_server::HealthServer};
use tonic_health::server::HealthService;
use tonic_types::pb::FILE_DESCRIPTOR_SET as ERROR_DESCRIPTORS;

use super::{config::GrpcConfig, dispatch::Dispatch};
use crate::{
    api::at_once::AnswersAtOnce,
    proto::{ENVOY_DESCRIPTOR_SET, v1::FILE_DESCRIPTOR_SET},
};

/// Longest message of those services that answer without a token, bytes: a name.
const OPEN_BYTES_MAX: usize = 4 << 10;

/// Puts `service` beside health and both versions of reflection.
///
/// Fails only when the descriptors that were compiled in cannot be read.
pub fn faces<T: AnswersAtOnce>(
    service: T,
    health: HealthServer<HealthService>,
    config: &GrpcConfig,
) -> Result<Dispatch<T>, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(ENVOY_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTORS)
            // What details of errors are made of, for clients that show them.
            .register_encoded_file_descriptor_set(ERROR_DESCRIPTORS)
    };
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let others = Routes::new(health.max_decoding_message_size(OPEN_BYTES_MAX))
        .add_service(v1.max_decoding_message_size(OPEN_BYTES_MAX))
        .add_service(v1alpha.max_decoding_message_size(OPEN_BYTES_MAX));
    Ok(Dispatch::new(service, config.message_bytes_max, others))
}
