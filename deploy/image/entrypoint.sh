#!/bin/sh
# The image's entry point. Spark on Kubernetes starts its pods with "driver" or "executor"; everything else is a command.
set -e
case "$1" in
executor)
    # What Spark's own image does: options arrive as SPARK_JAVA_OPT_0, SPARK_JAVA_OPT_1, ...
    options=$(mktemp)
    env | sed -n 's/^SPARK_JAVA_OPT_[0-9]*=//p' > "$options"
    set --
    while IFS= read -r option; do set -- "$@" "$option"; done < "$options"
    rm "$options"
    exec java "$@" \
        "-Xms$SPARK_EXECUTOR_MEMORY" "-Xmx$SPARK_EXECUTOR_MEMORY" \
        -cp "$SPARK_HOME/conf:$SPARK_HOME/jars/*${SPARK_EXTRA_CLASSPATH:+:$SPARK_EXTRA_CLASSPATH}" \
        org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
        --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
        --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
        --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
driver)
    shift
    exec "$SPARK_HOME/bin/spark-submit" --conf "spark.driver.bindAddress=$SPARK_DRIVER_BIND_ADDRESS" \
        --deploy-mode client "$@"
    ;;
*)
    exec "$@"
    ;;
esac
